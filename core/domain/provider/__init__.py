"""External binding: which NICs a network provider binds. Pure."""
