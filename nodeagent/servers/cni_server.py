"""Answers CNI calls of every command; a failure gets a CNI error object.

A DEL returns "try again later" after a retryable error, and while the Pod's endpoint cannot be
decoded. Other errors of a DEL are logged, and the DEL succeeds: a DEL that always fails would
prevent the end of the Pod. GC releases the addresses later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, Protocol

from core.allocation.add_request import HasHungUp
from core.errors import CallerGone, LogCorrupt, OrbweaverError
from nodeagent.cni_protocol.cni_call import (
    Call,
    read_add_request,
    read_call,
    read_environment,
)
from nodeagent.cni_protocol.failures import (
    NOT_AVAILABLE,
    RELEASE_ERROR,
    TRY_AGAIN_LATER,
    UNHEALTHY_PREFIX,
    CniFailure,
    error_object,
    failure_of,
)
from nodeagent.cni_protocol.netconf import version_in
from nodeagent.cni_protocol.results import version_result
from nodeagent.handlers.add_handler import AddHandler, CallResult
from nodeagent.handlers.check_handler import CheckHandler
from nodeagent.handlers.delete_handler import DeleteHandler, read_delete_request
from nodeagent.handlers.gc_handler import GcHandler
from nodeagent.handlers.status_handler import StatusHandler
from nodeagent.health import AgentHealth
from nodeagent.request_runner import (
    CHECK_DEADLINE_S,
    GC_DEADLINE_S,
    STATUS_DEADLINE_S,
    RequestRunner,
    require_caller,
)
from nodeagent.servers.call_log_lines import CallLog, LoggedCall
from nodeagent.servers.framed_server import Answer

_log: Final = logging.getLogger(__name__)

PLUGIN_VARIABLE: Final = "ORBWEAVER_PLUGIN"
"""Environment variable with the executable's name; ``spiderpool`` does not set it."""

Handler = Callable[[Call, float], Awaitable[CallResult]]


class CniHandlers(NamedTuple):
    """One handler for each command."""

    add: AddHandler
    delete: DeleteHandler
    check: CheckHandler
    status: StatusHandler
    gc: GcHandler


class ChainedPluginHandler(Protocol):
    """Answers the calls of an executable that is not an IPAM plugin."""

    async def answer_chained(self, command: str, variables: dict[str, str], stdin: bytes) -> bytes:
        """Return the standard output of a successful call. Raises CniFailure, OrbweaverError."""
        ...


class CniServer:
    """Answers the calls of the executables.

    ``chained``: handlers by executable, for every executable but ``spiderpool``.
    """

    def __init__(
        self,
        runner: RequestRunner,
        health: AgentHealth,
        handlers: CniHandlers,
        call_log: CallLog,
        chained: Mapping[str, ChainedPluginHandler],
        actor: str,
    ) -> None:
        self._actor = actor
        self._runner = runner
        self._health = health
        self._handlers = handlers
        self._call_log = call_log
        self._chained = chained
        self._handlers_by_command: dict[str, Handler] = {
            "DEL": self._answer_delete,
            "CHECK": self._answer_check,
            "STATUS": self._answer_status,
            "GC": self._answer_gc,
        }

    async def answer_call(self, environment: bytes, stdin: bytes, has_hung_up: HasHungUp) -> Answer:
        """Exit status and standard output of one call.

        Raises CallerGone if the caller closes the connection before the call starts.
        """
        arrived = time.perf_counter()
        logged_call = None
        try:
            command, variables = read_environment(environment)
            if command != "ADD" or PLUGIN_VARIABLE in variables:
                require_caller(has_hung_up)  # for an ADD, ``RequestRunner`` checks the caller
            if command == "VERSION":
                return 0, version_result(version_in(stdin))
            if PLUGIN_VARIABLE in variables:
                plugin = self._chained_plugin(variables[PLUGIN_VARIABLE])
                return 0, await plugin.answer_chained(command, variables, stdin)
            if command == "ADD":
                request, conf = read_add_request(variables, stdin, self._actor, has_hung_up)
                logged_call = LoggedCall(command, conf, request.attachment, request.pod)
                self._check_ready()
                body, fields = await self._handlers.add.handle_add(
                    request, conf.cni_version, arrived
                )
            else:
                call = read_call(command, variables, stdin)
                logged_call = LoggedCall(command, call.conf, call.attachment, call.pod)
                body, fields = await self._handlers_by_command[command](call, arrived)
        except CallerGone:
            raise
        except Exception as error:  # noqa: BLE001  # a runtime reads error objects, not tracebacks
            failure = failure_of(error)
            if not isinstance(error, OrbweaverError | CniFailure):
                _log.exception("unexpected error in a CNI call (a bug in the agent)")
            if logged_call is not None:
                self._call_log.log_failure(logged_call, failure, arrived)
            return 1, error_object(version_in(stdin), failure)
        self._call_log.log_success(logged_call, arrived, fields)
        return 0, body

    def _chained_plugin(self, name: str) -> ChainedPluginHandler:
        plugin = self._chained.get(name)
        if plugin is None:
            # The handlers of ``spiderpool`` would allocate addresses for an unknown executable.
            text = f"this agent does not support the executable {name[:64]!r}"
            raise CniFailure(TRY_AGAIN_LATER, text, "upgrade the agent, or the executables")
        return plugin

    async def _answer_delete(self, call: Call, arrived: float) -> CallResult:
        # If etcd did not answer its last request, a DEL waits for only one probe of etcd.
        fault = self._health.why_not_healthy()
        if fault is not None:
            fault = await self._health.probe_fault()
        if fault is not None:
            raise failure_of(fault).prefixed(UNHEALTHY_PREFIX)
        try:
            deleted = await self._handlers.delete.handle_delete(read_delete_request(call), arrived)
        except OrbweaverError as error:
            if error.retryable or isinstance(error, LogCorrupt):
                raise CniFailure(TRY_AGAIN_LATER, error.message, error.remedy).prefixed(
                    RELEASE_ERROR
                ) from error
            container, interface, *_ = call.attachment
            _log.warning(
                "DEL of container %s, interface %s: cannot release its addresses; a GC releases"
                " them later: %s",
                container,
                interface,
                error,
            )
            return b"", {"released": [], "error": str(error)}
        return b"", {"released": deleted.released.addresses, "why": deleted.released.why}

    async def _answer_check(self, call: Call, _: float) -> CallResult:
        self._check_ready()
        with self._runner.admit(CHECK_DEADLINE_S):
            await self._handlers.check.handle_check(call)
        return b"", {}

    async def _answer_status(self, call: Call, _: float) -> CallResult:
        try:
            with self._runner.admit(STATUS_DEADLINE_S):
                await self._handlers.status.handle_status(call.conf.ipam)
        except OrbweaverError as error:
            raise CniFailure(NOT_AVAILABLE, error.message, error.remedy) from error
        return b"", {}

    async def _answer_gc(self, call: Call, _: float) -> CallResult:
        self._check_ready()
        with self._runner.admit(GC_DEADLINE_S):
            result = await self._handlers.gc.handle_gc(call)
        return b"", {"released": result.released, "missing": result.missing}

    def _check_ready(self) -> None:
        fault = self._health.why_not_ready()
        if fault is not None:
            raise failure_of(fault).prefixed(UNHEALTHY_PREFIX)
