"""Parses objects of other IPAM systems, as API servers return them and kubectl prints them."""
