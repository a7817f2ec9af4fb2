"""Quarantine: addresses that conflicting hosts use are set aside and returned. Pure."""
