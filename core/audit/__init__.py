"""Queries of the event log: who held an address and when, past states, consistency."""
