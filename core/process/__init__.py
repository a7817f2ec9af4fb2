"""Shared parts of the long-lived processes: tasks, shutdown, logs, environment, TCP ports.

supervision.py   runs the long-lived tasks and restarts a task that ends
concurrency.py   runs coroutines concurrently; chooses the event loop
retry.py         pauses between retries
teardown.py      closes resources in reverse order
logs.py          JSON lines on standard error
tracing.py       the spans of a process, and the trace contexts of its callers
spans.py         spans of OpenTelemetry's SDK
openmetrics.py   the metrics of a process
environment.py   reads environment variables
tcp_port.py      serves an HTTP application on a TCP port
connections.py   an HTTP server with limits on its connections
bodies.py        reads bodies of HTTP requests within limits of time and size
tls.py           certificate checks as strict as Go's
"""
