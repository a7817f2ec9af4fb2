"""Processes that generate load and time it: a JSON order on stdin, a JSON report on stdout."""
