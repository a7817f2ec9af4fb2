"""What an address, a pool and a claim are, and the event log that remembers them."""

__version__ = "0.1.0"
