"""Sealed segments as files outside etcd, chained by hash and read as one with the live log."""
