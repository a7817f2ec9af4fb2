"""Metrics and the plugin log.

metrics.py         every metric and its name
exposition.py      the metrics as Prometheus text
observed_store.py  a store that reports its calls
plugin_log.py      the log file of the CNI executables
"""
