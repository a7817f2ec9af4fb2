"""Shared parts of the long-lived processes."""
