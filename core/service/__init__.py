"""The I/O shells around the pure decisions: allocate, release, configure."""
