"""Shared parts of the long-lived processes: tasks, shutdown, logs, environment, TCP ports.

supervision.py   one supervisor for every long-lived task
concurrency.py   several tasks at once: none is left behind when one fails; the event loop
teardown.py      closes resources in reverse order
logs.py          JSON lines on standard error
tracing.py       the spans of a process, and the trace contexts of its callers
spans.py         spans by OpenTelemetry's SDK
openmetrics.py   the instruments of a process, and the answer to a scrape
environment.py   environment variables
tcp_port.py      one TCP port and its application
connections.py   bounds on the connections of a port
bodies.py        bounds on the bodies of HTTP requests
tls.py           TLS contexts for servers with foreign certificates
"""
