"""How callers come in: the executables' framed socket, the HTTP API, the TCP health port."""
