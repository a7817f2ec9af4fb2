"""Queries of the log: holders of addresses over time, past states, and consistency."""
