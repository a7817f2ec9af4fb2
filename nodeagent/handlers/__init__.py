"""What the agent does for a caller: add, delete, check, status, gc; the same at every door."""
