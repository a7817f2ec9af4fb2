"""What an operator sees of a running agent: metrics, traces, its log, and the plugin's log.

metrics.py       every instrument and its name
durations.py     last, least, greatest and mean of a duration
observed.py      a store that reports its calls
tracing.py       spans, and the traceparent that events keep
plugin_log.py    the file that the executables' configuration names
"""
