"""Binding of addresses by a network provider: which NICs and addresses it binds. Pure."""
