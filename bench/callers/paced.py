"""Sends ADDs to an agent's framed socket at a fixed rate, even if earlier calls have not ended.

Parameters: ``socket``, ``first`` (Pod number), ``count``, ``rate`` (ADDs per second), ``netconf``.
Report: ``answered`` (Unix seconds of each answer, ascending), ``failures`` (texts).
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any

from bench.callers.framed import SUCCESS_BYTE, Connection, failure_text
from bench.rig.frames import frame


def call(parameters: dict[str, Any]) -> dict[str, Any]:
    """Send the ADDs; return the report."""
    conf = parameters["netconf"].encode()
    first, count, pause_s = parameters["first"], parameters["count"], 1 / parameters["rate"]
    frames = [frame("ADD", serial, conf) for serial in range(first, first + count)]
    epoll, connections = select.epoll(), dict[int, Connection]()
    answered: list[float] = []
    failures: list[str] = []
    due = time.perf_counter()
    while frames or connections:
        if frames and time.perf_counter() >= due:
            connection = Connection(parameters["socket"], frames.pop())
            connections[connection.descriptor] = connection
            epoll.register(connection.descriptor, select.EPOLLIN)
            due += pause_s
        wait_s = max(due - time.perf_counter(), 0) if frames else 1.0
        for descriptor, _ in epoll.poll(wait_s):
            connection = connections[descriptor]
            if not connection.receive():
                continue
            answered.append(time.time())
            if connection.answer[:1] != SUCCESS_BYTE:
                failures.append(failure_text(bytes(connection.answer)))
            epoll.unregister(descriptor)
            connections.pop(descriptor).close()
    return {"answered": answered, "failures": failures}


if __name__ == "__main__":
    json.dump(call(json.load(sys.stdin)), sys.stdout)
