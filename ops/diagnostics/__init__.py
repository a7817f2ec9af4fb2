"""Diagnostics of a node: ``orbctl node doctor`` and ``orbctl trace-path``."""
