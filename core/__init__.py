"""Addresses, pools and claims, and the event log that records every change of them."""

__version__ = "0.1.0"
