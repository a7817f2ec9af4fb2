"""Sends ADDs to the framed socket of an agent at a fixed rate, however long each call takes.

Parameters: ``socket``, ``first`` (the number of the first Pod), ``count`` (of Pods), ``rate`` (ADDs
per second), ``netconf``. Report: ``answered`` (Unix time of each answer in seconds, ascending),
``failures`` (texts).
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any

from bench.callers.framed import SUCCESS_BYTE, Connection
from bench.rig.frames import frame


def call(parameters: dict[str, Any]) -> dict[str, Any]:
    """Send the ADDs that the parameters define; return the report."""
    conf = parameters["netconf"].encode()
    first, count, pause_s = parameters["first"], parameters["count"], 1 / parameters["rate"]
    frames = [frame("ADD", serial, conf) for serial in range(first, first + count)]
    epoll, under_way = select.epoll(), dict[int, Connection]()
    answered: list[float] = []
    failures: list[str] = []
    due = time.perf_counter()
    while frames or under_way:
        if frames and time.perf_counter() >= due:
            connection = Connection(parameters["socket"], frames.pop())
            under_way[connection.descriptor] = connection
            epoll.register(connection.descriptor, select.EPOLLIN)
            due += pause_s
        wait_s = max(due - time.perf_counter(), 0) if frames else 1.0
        for descriptor, _ in epoll.poll(wait_s):
            connection = under_way[descriptor]
            if not connection.receive():
                continue
            answered.append(time.time())
            if connection.answer[:1] != SUCCESS_BYTE:
                failures.append(bytes(connection.answer).decode(errors="replace"))
            epoll.unregister(descriptor)
            under_way.pop(descriptor).close()
    return {"answered": answered, "failures": failures}


if __name__ == "__main__":
    json.dump(call(json.load(sys.stdin)), sys.stdout)
