"""Shared parts of the long-lived processes: tasks, shutdown, logs, environment, TCP ports.

supervision.py   one supervisor for every long-lived task
concurrency.py   several tasks at once: none is left behind when one fails; the event loop
teardown.py      closes resources in reverse order
logs.py          JSON lines on standard error
environment.py   environment variables
tcp_port.py      one TCP port and its application
connections.py   bounds on the connections of a port
bodies.py        bounds on the bodies of HTTP requests
tls.py           TLS contexts for servers with foreign certificates
"""
