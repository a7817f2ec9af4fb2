"""What listens for callers.

framed.py       the socket of the CNI executables
cni.py          CNI calls: from request bytes to answer bytes
coordinator.py  calls of the executable ``coordinator``
call_log.py     one line of the plugin log for each call
http_api.py     the compatible HTTP API; http_bodies.py and http_shapes.py are its JSON
tcp_ports.py    health and metrics
sockets.py      unix sockets: one owner, callers checked
"""
