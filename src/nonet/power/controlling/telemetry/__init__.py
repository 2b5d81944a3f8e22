"""Sources of row power."""
