"""What the container runtime executes: ``plugin.c``, and its compilation."""
