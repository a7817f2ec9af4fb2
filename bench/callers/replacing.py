"""Replaces Pods at the framed socket, as rolling updates do: a DEL, then an ADD.

Each caller deletes an existing Pod, and after the answer adds a new one. So even a full pool has a
free address for each ADD, and no ADD may fail. All callers are in one process with one epoll, as in
``framed``.

Order: ``socket``, ``callers``, ``existing`` (numbers of Pods, at least one for each caller),
``first`` and ``count`` (numbers of the new Pods), ``netconf``. Report: ``add_ms``, ``del_ms``
(latencies), ``existing`` (the Pods afterwards), ``failures``.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections import deque
from typing import Any, Final

from bench.callers.framed import ANSWER_HEAD_BYTES, ANSWER_S_MAX, SUCCESS, Connection
from bench.rig.frames import frame

_TEXT_BYTES: Final = 500


class Replacements:
    """Replaces Pods with several callers, each with one call at a time."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._path: str = order["socket"]
        self._conf: bytes = order["netconf"].encode()
        self._new = iter(range(order["first"], order["first"] + order["count"]))
        self._epoll = select.epoll()
        self._under_way: dict[int, tuple[Connection, str, int]] = {}
        self.existing = deque[int](order["existing"])
        self.latencies_ms: dict[str, list[float]] = {"ADD": [], "DEL": []}
        self.failures: list[str] = []

    def run(self, callers: int) -> None:
        """Replace Pods until all new Pods of the order are added. Raises TimeoutError."""
        for _ in range(callers):
            self._replace()
        while self._under_way:
            ready = self._epoll.poll(ANSWER_S_MAX)
            if not ready:
                raise TimeoutError(f"{len(self._under_way)} callers got no answer")
            for descriptor, _ in ready:
                self._advance(descriptor)

    def _replace(self) -> None:
        """Start the next replacement, if there is one: delete the oldest existing Pod."""
        new = next(self._new, None)
        if new is not None:
            self._begin("DEL", self.existing.popleft(), new)

    def _begin(self, verb: str, serial: int, new: int) -> None:
        connection = Connection(self._path, frame(verb, serial, self._conf))
        self._under_way[connection.descriptor] = connection, verb, new
        self._epoll.register(connection.descriptor, select.EPOLLIN)

    def _advance(self, descriptor: int) -> None:
        connection, verb, new = self._under_way[descriptor]
        if not connection.receive():
            return
        self.latencies_ms[verb].append((time.perf_counter() - connection.began) * 1e3)
        if connection.answer[:1] != SUCCESS:
            text = connection.answer[ANSWER_HEAD_BYTES:][:_TEXT_BYTES].decode(errors="replace")
            self.failures.append(f"{verb}: {text or 'no answer'}")
        del self._under_way[descriptor]
        self._epoll.unregister(descriptor)
        connection.close()
        if verb == "DEL":
            self._begin("ADD", new, new)
        else:
            self.existing.append(new)
            self._replace()


def call(order: dict[str, Any]) -> dict[str, Any]:
    """Make the calls of an order; return the report."""
    replacements = Replacements(order)
    replacements.run(order["callers"])
    return {
        "add_ms": replacements.latencies_ms["ADD"],
        "del_ms": replacements.latencies_ms["DEL"],
        "existing": list(replacements.existing),
        "failures": replacements.failures,
    }


if __name__ == "__main__":
    json.dump(call(json.load(sys.stdin)), sys.stdout)
