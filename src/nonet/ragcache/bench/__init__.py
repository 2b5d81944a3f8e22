"""The room's experiments."""
