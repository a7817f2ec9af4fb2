"""CNI calls: from the bytes of a request to the bytes of its answer, for every verb.

Promise: always an answer, and every failure a CNI error object. ADD's failures carry the prefix
that users match on. A DEL whose own error is retryable answers "try again later", so that the
runtime repeats it, and so does one of an endpoint that cannot be read: a newer agent or a repair
makes it readable, and until then its addresses are held. Any other failed release is logged and DEL
succeeds (docs/reference/cni-configuration.md, "spiderpool"), because a runtime that cannot delete
never ends a Pod, and GC finds what is left. It must never wait longer than the gate allows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, Protocol

from core.allocation.add_request import HasHungUp
from core.errors import LogCorrupt, OrbweaverError
from nodeagent.address_service import AddressService
from nodeagent.cni_protocol.call import (
    Call,
    read_add_request,
    read_call,
    read_conf,
    read_environment,
    read_verb,
)
from nodeagent.cni_protocol.failures import (
    NOT_AVAILABLE,
    RELEASE_ERROR,
    TRY_AGAIN_LATER,
    UNHEALTHY,
    CniFailure,
    error_object,
    failure_of,
)
from nodeagent.cni_protocol.netconf import version_in
from nodeagent.cni_protocol.results import version_result
from nodeagent.gate import CHECK_DEADLINE_S, GC_DEADLINE_S, STATUS_DEADLINE_S, Gate
from nodeagent.handlers.add_handler import AddHandler, Done
from nodeagent.handlers.check_handler import CheckHandler
from nodeagent.handlers.delete_handler import read_delete_request
from nodeagent.handlers.gc_handler import GcHandler
from nodeagent.handlers.status import StatusHandler
from nodeagent.health import AgentHealth
from nodeagent.servers.call_log import CallLog, Logged
from nodeagent.servers.framed import Answer

_log: Final = logging.getLogger(__name__)

PLUGIN: Final = "ORBWEAVER_PLUGIN"
"""Which executable calls; ``spiderpool`` does not say it (docs/reference/cni-executables.md)."""

Handler = Callable[[Call, float], Awaitable[Done]]


class CniHandlers(NamedTuple):
    """What does the work."""

    add_handler: AddHandler
    addresses: AddressService
    check_handler: CheckHandler
    status: StatusHandler
    gc_handler: GcHandler


class ChainedPluginHandler(Protocol):
    """What answers the calls of an executable that is no IPAM plugin."""

    async def answer(self, verb: str, variables: dict[str, str], stdin: bytes) -> bytes:
        """Standard output of a success; failures are raised."""
        ...


class CniServer:
    """Answers the calls of the executables; ``chained`` by the names that they call themselves."""

    def __init__(
        self,
        gate: Gate,
        health: AgentHealth,
        handlers: CniHandlers,
        call_log: CallLog,
        chained: Mapping[str, ChainedPluginHandler],
        actor: str,
    ) -> None:
        self._actor = actor
        self._gate = gate
        self._health = health
        self._cni_handlers = handlers
        self._call_log = call_log
        self._chained = chained
        self._handlers: dict[str, Handler] = {
            "DEL": self._delete,
            "CHECK": self._check,
            "STATUS": self._ask_status,
            "GC": self._collect,
        }

    async def answer_call(self, environment: bytes, stdin: bytes, has_hung_up: HasHungUp) -> Answer:
        """Exit status and standard output of one call."""
        arrived = time.perf_counter()
        logged = None
        try:
            variables = read_environment(environment)
            verb = read_verb(variables)
            if verb == "VERSION":
                return 0, version_result(version_in(stdin))
            if PLUGIN in variables:
                return 0, await self._chained_one(variables[PLUGIN]).answer(verb, variables, stdin)
            if verb == "ADD":
                conf = read_conf(verb, variables, stdin)
                request = read_add_request(variables, conf, self._actor, has_hung_up)
                logged = Logged(verb, conf, request.attachment, request.pod)
                self._check_ready()
                body, fields = await self._cni_handlers.add_handler.handle_add(
                    request, conf.cni_version, arrived
                )
            else:
                call = read_call(verb, variables, stdin)
                logged = Logged(verb, call.conf, call.attachment, call.pod)
                body, fields = await self._handlers[verb](call, arrived)
        except Exception as error:  # noqa: BLE001  # a runtime reads error objects, not tracebacks
            failure = failure_of(error)
            if not isinstance(error, OrbweaverError | CniFailure):
                _log.exception("a bug in the agent")
            if logged is not None:
                self._call_log.failed(logged, failure, arrived)
            return 1, error_object(version_in(stdin), failure)
        self._call_log.done(logged, arrived, fields)
        return 0, body

    def _chained_one(self, name: str) -> ChainedPluginHandler:
        found = self._chained.get(name)
        if found is None:
            # Never taken for an IPAM plugin: its ADD would be given addresses.
            text = f"this agent does not know the executable {name[:64]!r}"
            raise CniFailure(TRY_AGAIN_LATER, text, "upgrade the agent, or the executables")
        return found

    async def _delete(self, call: Call, arrived: float) -> Done:
        # Fails at once while etcd is away; the probe of ``fault`` notices that it is back.
        fault = self._health.why_not_healthy() and await self._health.fault()
        if fault is not None:
            raise failure_of(fault).prefixed(UNHEALTHY)
        try:
            deleted = await self._cni_handlers.addresses.serve_delete(
                read_delete_request(call), arrived
            )
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
        with self._gate.admit(CHECK_DEADLINE_S):
            await self._cni_handlers.check_handler.check(call)
        return b"", {}

    async def _ask_status(self, call: Call, _: float) -> Done:
        try:
            with self._gate.admit(STATUS_DEADLINE_S):
                await self._cni_handlers.status.check(call.conf.ipam)
        except OrbweaverError as error:
            raise CniFailure(NOT_AVAILABLE, error.message, error.remedy) from error
        return b"", {}

    async def _collect(self, call: Call, _: float) -> Done:
        self._check_ready()
        with self._gate.admit(GC_DEADLINE_S):
            collected = await self._cni_handlers.gc_handler.collect(call)
        return b"", {"released": collected.released, "missing": collected.missing}

    def _check_ready(self) -> None:
        fault = self._health.why_not_ready()
        if fault is not None:
            raise failure_of(fault).prefixed(UNHEALTHY)
