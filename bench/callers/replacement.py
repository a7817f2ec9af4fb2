"""Replaces Pods as rolling updates do: a DEL of an existing Pod, then an ADD of a new Pod.

The ADD follows the answer to the DEL, so that even a full pool has a free address for the ADD.

Parameters: ``socket`` (the framed socket of an agent), ``callers``, ``existing`` (Pod numbers, at
least one for each caller), ``first`` (number of the first new Pod), ``count`` (of new Pods),
``netconf``. Report: ``add_ms``, ``del_ms``, ``existing`` (Pod numbers afterwards), ``failures``.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections import deque
from typing import Any, Final, NamedTuple

from bench.callers.framed import ANSWER_S_MAX, SUCCESS_BYTE, Connection, failure_text
from bench.rig.frames import frame

_FAILURE_CHARACTERS_MAX: Final = 500


class _Call(NamedTuple):
    """A call in progress. ``new_pod``: the number of the new Pod."""

    connection: Connection
    verb: str
    new_pod: int


class Replacements:
    """Replaces Pods with several callers, each with one call at a time."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._path: str = parameters["socket"]
        self._conf: bytes = parameters["netconf"].encode()
        self._new_pods = iter(range(parameters["first"], parameters["first"] + parameters["count"]))
        self._epoll = select.epoll()
        self._calls: dict[int, _Call] = {}
        self.existing = deque[int](parameters["existing"])
        self.latencies_ms: dict[str, list[float]] = {"ADD": [], "DEL": []}
        self.failures: list[str] = []

    def run(self, callers: int) -> None:
        """Replace Pods until all new Pods are added. Raises TimeoutError."""
        for _ in range(callers):
            self._replace()
        while self._calls:
            ready = self._epoll.poll(ANSWER_S_MAX)
            if not ready:
                raise TimeoutError(
                    f"{len(self._calls)} callers got no answer in {ANSWER_S_MAX:g} s"
                )
            for descriptor, _ in ready:
                self._advance(descriptor)

    def _replace(self) -> None:
        new_pod = next(self._new_pods, None)
        if new_pod is not None:
            self._begin("DEL", self.existing.popleft(), new_pod)

    def _begin(self, verb: str, serial: int, new_pod: int) -> None:
        connection = Connection(self._path, frame(verb, serial, self._conf))
        self._calls[connection.descriptor] = _Call(connection, verb, new_pod)
        self._epoll.register(connection.descriptor, select.EPOLLIN)

    def _advance(self, descriptor: int) -> None:
        connection, verb, new_pod = self._calls[descriptor]
        if not connection.receive():
            return
        self.latencies_ms[verb].append((time.perf_counter() - connection.began) * 1e3)
        if connection.answer[:1] != SUCCESS_BYTE:
            text = failure_text(bytes(connection.answer))[:_FAILURE_CHARACTERS_MAX]
            self.failures.append(f"{verb}: {text}")
        del self._calls[descriptor]
        self._epoll.unregister(descriptor)
        connection.close()
        if verb == "DEL":
            self._begin("ADD", new_pod, new_pod)
        else:
            self.existing.append(new_pod)
            self._replace()


def call(parameters: dict[str, Any]) -> dict[str, Any]:
    """Replace the Pods; return the report."""
    replacements = Replacements(parameters)
    replacements.run(parameters["callers"])
    return {
        "add_ms": replacements.latencies_ms["ADD"],
        "del_ms": replacements.latencies_ms["DEL"],
        "existing": list(replacements.existing),
        "failures": replacements.failures,
    }


if __name__ == "__main__":
    json.dump(call(json.load(sys.stdin)), sys.stdout)
