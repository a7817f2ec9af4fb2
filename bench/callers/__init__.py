"""Processes that make the load and time it: order as JSON on standard input, report on output."""
