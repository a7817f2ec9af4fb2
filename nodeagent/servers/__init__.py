"""Servers of the agent.

framed_server.py       the socket of the CNI executables
cni_server.py          CNI calls: from request bytes to answer bytes
coordinator_server.py  calls of the executable ``coordinator``
call_log_lines.py      one line of the plugin log for each call
traced_calls.py        a span for each call, if traces are exported
http_api.py            Spiderpool's HTTP API
http_request_bodies.py and http_response_bodies.py have its JSON
health_port.py         the health port
unix_sockets.py        unix sockets, their lock files, and checks of callers
"""
