"""Addresses, sets of addresses, routes, and the choice of an address in a set. Pure."""
