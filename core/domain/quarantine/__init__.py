"""Quarantine of addresses that conflicting hosts use. Pure."""
