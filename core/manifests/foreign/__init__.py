"""Objects of other IPAM systems, as their API servers and kubectl give them."""
