"""Back ends that write caps."""
