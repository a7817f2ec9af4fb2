"""Processes that generate load and time it: JSON order on standard input, JSON report on output."""
