"""Two programs for Pods: a server that sends its name, and a client.

    python -m ops.lab.pod_programs serve NAME PORT
    python -m ops.lab.pod_programs ask ADDRESS PORT TIMES

``ask`` connects TIMES times, and prints what the function ``ask`` returns, as JSON. The module
imports only the standard library, to start quickly.
"""

from __future__ import annotations

import json
import socket
import sys
from collections import Counter
from typing import Final, NoReturn

NAME_BYTES_MAX: Final = 256
ANSWER_S: Final = 5.0
BACKLOG: Final = 64


def serve(name: str, port: int) -> NoReturn:
    """Listen on all IPv4 and IPv6 addresses, and send ``name`` to each client."""
    with socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
    ) as server:
        while True:
            client, _ = server.accept()
            with client:
                client.sendall(name.encode())


def ask(address: str, port: int, times: int) -> dict[str, object]:
    """Return the peer of the last socket, and how often each server answered."""
    peer, answers = "", Counter[str]()
    for _ in range(times):
        with socket.create_connection((address, port), timeout=ANSWER_S) as client:
            host, number, *_ = client.getpeername()
            peer = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
            answers[client.recv(NAME_BYTES_MAX).decode()] += 1
    return {"peer": peer, "answers": dict(sorted(answers.items()))}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", name, port]:
            serve(name, int(port))
        case ["ask", address, port, times]:
            print(json.dumps(ask(address, int(port), int(times))))
        case _:
            sys.exit(__doc__)
