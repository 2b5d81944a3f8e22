"""The bench of the room power."""
