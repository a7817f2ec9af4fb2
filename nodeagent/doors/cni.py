"""CNI calls: from the bytes of a request to the bytes of its answer, for every verb.

Promise: always an answer, and every failure a CNI error object. ADD's failures carry the prefix
that users match on. A DEL whose own error is retryable answers "try again later", so that the
runtime repeats it, and so does one of an endpoint that cannot be read: a newer agent or a repair
makes it readable, and until then its addresses are held. Any other failed release is logged and
DEL succeeds (spec/api.md 4.1), because a runtime that cannot delete never ends a Pod, and GC finds
what is left. It must never wait longer than the gate allows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, Protocol

from core.errors import LogCorrupt, OrbweaverError
from nodeagent.cniwire.call import Call, read_call, read_environment, read_verb
from nodeagent.cniwire.failures import (
    ALLOCATION_ERROR,
    NOT_AVAILABLE,
    RELEASE_ERROR,
    TRY_AGAIN_LATER,
    UNHEALTHY,
    CniFailure,
    error_object,
    failure_of,
)
from nodeagent.cniwire.netconf import version_in
from nodeagent.cniwire.results import add_result, version_result
from nodeagent.doors.call_log import CallLog
from nodeagent.doors.framed import Answer
from nodeagent.gate import CHECK_DEADLINE_S, GC_DEADLINE_S, STATUS_DEADLINE_S, Gate
from nodeagent.health import Health
from nodeagent.ordering import HasHungUp
from nodeagent.serving import Serving
from nodeagent.verbs.attaching import Attaching
from nodeagent.verbs.checking import Checking
from nodeagent.verbs.collecting import Collecting
from nodeagent.verbs.deleting import delete_order
from nodeagent.verbs.status import Status

_log: Final = logging.getLogger(__name__)

PLUGIN: Final = "ORBWEAVER_PLUGIN"
"""Which executable calls; ``spiderpool`` does not say it (docs/cni.md)."""

Done = tuple[bytes, dict[str, object]]
"""Standard output, and what the plugin's log shall say of it."""

Handler = Callable[[Call, float], Awaitable[Done]]


class Verbs(NamedTuple):
    """What does the work."""

    attaching: Attaching
    serving: Serving
    checking: Checking
    status: Status
    collecting: Collecting


class Chained(Protocol):
    """What answers the calls of an executable that is no IPAM plugin."""

    async def answer(self, verb: str, variables: dict[str, str], stdin: bytes) -> bytes:
        """Standard output of a success; failures are raised."""
        ...


class CniDoor:
    """Answers the calls of the executables; ``chained`` by the names that they call themselves."""

    def __init__(
        self,
        gate: Gate,
        health: Health,
        verbs: Verbs,
        call_log: CallLog,
        chained: Mapping[str, Chained],
    ) -> None:
        self._gate = gate
        self._health = health
        self._verbs = verbs
        self._call_log = call_log
        self._chained = chained
        self._handlers: dict[str, Handler] = {
            "ADD": self._add,
            "DEL": self._delete,
            "CHECK": self._check,
            "STATUS": self._ask_status,
            "GC": self._collect,
        }

    async def answer(self, environment: bytes, stdin: bytes, has_hung_up: HasHungUp) -> Answer:
        """Exit status and standard output of one call."""
        arrived = time.perf_counter()
        call = None
        try:
            variables = read_environment(environment)
            verb = read_verb(variables)
            if verb == "VERSION":
                return 0, version_result(version_in(stdin))
            if PLUGIN in variables:
                return 0, await self._chained_one(variables[PLUGIN]).answer(verb, variables, stdin)
            call = read_call(verb, variables, stdin)._replace(has_hung_up=has_hung_up)
            body, fields = await self._handlers[verb](call, arrived)
        except Exception as error:  # noqa: BLE001  # a runtime reads error objects, not tracebacks
            failure = failure_of(error)
            if not isinstance(error, OrbweaverError | CniFailure):
                _log.exception("a bug in the agent")
            if call is not None:
                self._call_log.failed(call, failure, arrived)
            return 1, error_object(version_in(stdin), failure)
        self._call_log.done(call, arrived, fields)
        return 0, body

    def _chained_one(self, name: str) -> Chained:
        found = self._chained.get(name)
        if found is None:
            # Never taken for an IPAM plugin: its ADD would be given addresses.
            text = f"this agent does not know the executable {name[:64]!r}"
            raise CniFailure(TRY_AGAIN_LATER, text, "upgrade the agent, or the executables")
        return found

    async def _add(self, call: Call, arrived: float) -> Done:
        self._check_ready()
        try:
            nic = await self._verbs.attaching.add(call, arrived)
        except (OrbweaverError, CniFailure) as error:
            raise failure_of(error).prefixed(ALLOCATION_ERROR) from error
        addresses = [cidr for cidr in (nic.ipv4, nic.ipv6) if cidr]
        return add_result(call.conf.cni_version, nic), {"addresses": addresses}

    async def _delete(self, call: Call, arrived: float) -> Done:
        # Fails at once while etcd is away; the probe of ``fault`` notices that it is back.
        fault = self._health.why_not_healthy() and await self._health.fault()
        if fault is not None:
            raise failure_of(fault).prefixed(UNHEALTHY)
        try:
            deleted = await self._verbs.serving.delete(delete_order(call), arrived)
        except OrbweaverError as error:
            if error.retryable or isinstance(error, LogCorrupt):
                raise CniFailure(TRY_AGAIN_LATER, error.message, error.remedy).prefixed(
                    RELEASE_ERROR
                ) from error
            container, interface, *_ = call.attachment
            _log.warning("DEL %s %s: not released: %s", container, interface, error)
            return b"", {"released": [], "error": str(error)}
        return b"", {"released": deleted.released.addresses, "why": deleted.released.why}

    async def _check(self, call: Call, _: float) -> Done:
        self._check_ready()
        await self._gate.run(lambda: self._verbs.checking.check(call), CHECK_DEADLINE_S)
        return b"", {}

    async def _ask_status(self, call: Call, _: float) -> Done:
        try:
            await self._gate.run(
                lambda: self._verbs.status.check(call.conf.ipam), STATUS_DEADLINE_S
            )
        except OrbweaverError as error:
            raise CniFailure(NOT_AVAILABLE, error.message, error.remedy) from error
        return b"", {}

    async def _collect(self, call: Call, _: float) -> Done:
        self._check_ready()
        collected = await self._gate.run(
            lambda: self._verbs.collecting.collect(call), GC_DEADLINE_S
        )
        return b"", {"released": collected.released, "missing": collected.missing}

    def _check_ready(self) -> None:
        fault = self._health.why_not_ready()
        if fault is not None:
            raise failure_of(fault).prefixed(UNHEALTHY)
