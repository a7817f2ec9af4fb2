"""Questions to the log: who held what and when, what was true then, and whether it all agrees."""
