"""CNI calls: from the bytes of a request to the bytes of its answer, for every verb.

Promise: always an answer, and every failure a CNI error object. ADD's failures carry the prefix
users match on; a failed release is logged and DEL succeeds all the same (spec/api.md 4.1), because
a runtime that cannot delete never ends a Pod; what it leaves is found by GC. It must never wait
longer than the gate allows.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from core.errors import OrbweaverError
from nodeagent.cniwire.call import Call, read_call, read_environment, read_verb
from nodeagent.cniwire.failures import (
    ALLOCATION_ERROR,
    NO_ADDRESS_FOR_INTERFACE,
    UNHEALTHY,
    CniFailure,
    error_object,
    failure_of,
)
from nodeagent.cniwire.netconf import version_in
from nodeagent.cniwire.results import add_result, version_result
from nodeagent.doors.framed import Answer
from nodeagent.gate import ADD_DEADLINE_S, DEL_DEADLINE_S, Gate
from nodeagent.health import Health
from nodeagent.verbs.adding import Adding, add_order
from nodeagent.verbs.deleting import Deleting, delete_order

_log: Final = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[bytes]]


class CniDoor:
    """Answers the calls of the executables."""

    def __init__(self, gate: Gate, health: Health, adding: Adding, deleting: Deleting) -> None:
        self._gate = gate
        self._health = health
        self._adding = adding
        self._deleting = deleting
        self._handlers: dict[str, Handler] = {"ADD": self._add, "DEL": self._delete}

    async def answer(self, environment: bytes, stdin: bytes) -> Answer:
        """Exit status and standard output of one call."""
        try:
            variables = read_environment(environment)
            verb = read_verb(variables)
            if verb == "VERSION":
                return 0, version_result(version_in(stdin))
            return 0, await self._handlers[verb](read_call(verb, variables, stdin))
        except Exception as error:  # noqa: BLE001  # a runtime reads error objects, not tracebacks
            if not isinstance(error, OrbweaverError | CniFailure):
                _log.exception("a bug in the agent")
            return 1, error_object(version_in(stdin), failure_of(error))

    async def _add(self, call: Call) -> bytes:
        self._check_health()
        try:
            added = await self._gate.run(lambda: self._adding.add(add_order(call)), ADD_DEADLINE_S)
            nic = added.endpoint.find(call.interface)
            if nic is None or not (nic.ipv4 or nic.ipv6):
                raise CniFailure(
                    NO_ADDRESS_FOR_INTERFACE,
                    f"no Interface {call.interface} IP allocation found",
                    "the Pod's annotation must list this interface",
                )
        except (OrbweaverError, CniFailure) as error:
            raise failure_of(error).prefixed(ALLOCATION_ERROR) from error
        return add_result(call.conf.cni_version, nic)

    async def _delete(self, call: Call) -> bytes:
        self._check_health()
        try:
            await self._gate.run(lambda: self._deleting.delete(delete_order(call)), DEL_DEADLINE_S)
        except OrbweaverError as error:
            _log.warning("DEL of %s %s: %s", call.container, call.interface, error)
        return b""

    def _check_health(self) -> None:
        why = self._health.why_not_ready()
        if why:
            failure = failure_of(why)
            raise failure.prefixed(UNHEALTHY)
