"""Answers calls of the executable ``coordinator``.

ADD returns prevResult, with the NIC's new MAC address if ADD set one. ADD reads the Pod's
annotations, so ADD needs a ready agent, with etcd. DEL and CHECK do not need etcd.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec

from nodeagent.cni_protocol.cni_call import Call, read_call
from nodeagent.cni_protocol.failures import (
    INVALID_CONFIG,
    NOT_AVAILABLE,
    UNHEALTHY_PREFIX,
    CniFailure,
    failure_of,
)
from nodeagent.cni_protocol.netconf import IpamConf
from nodeagent.cni_protocol.results import encode_result
from nodeagent.coordinator.settings import UnparsedSettings, read_settings
from nodeagent.handlers.add_handler import CallResult
from nodeagent.handlers.coordinator_handler import CoordinatorHandler
from nodeagent.health import AgentHealth
from nodeagent.netlink.values import mac_text
from nodeagent.request_runner import (
    ADD_DEADLINE_S,
    CHECK_DEADLINE_S,
    DEL_DEADLINE_S,
    GC_DEADLINE_S,
    RequestRunner,
)
from nodeagent.servers.call_log_lines import CallLog, LoggedCall

NAME: Final = "coordinator"


Handler = Callable[[Call, UnparsedSettings], Awaitable[CallResult]]

_LogLimit = Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]


class LogOptions(msgspec.Struct, frozen=True, rename="camel"):
    """``logOptions`` of a network configuration. A number 0 means "not set"."""

    log_level: str = "debug"
    log_file: str = ""
    log_max_size: _LogLimit = 0
    log_max_age: _LogLimit = 0
    log_max_count: _LogLimit = 0


class CoordinatorServer:
    """Answers the calls of ``coordinator``."""

    def __init__(
        self,
        runner: RequestRunner,
        health: AgentHealth,
        coordinator_handler: CoordinatorHandler,
        call_log: CallLog,
    ) -> None:
        self._runner = runner
        self._health = health
        self._coordinator_handler = coordinator_handler
        self._call_log = call_log
        self._handlers: dict[str, Handler] = {
            "ADD": self._answer_add,
            "DEL": self._answer_delete,
            "CHECK": self._answer_check,
            "STATUS": self._answer_status,
            "GC": self._answer_gc,
        }

    async def answer_chained(self, command: str, variables: dict[str, str], stdin: bytes) -> bytes:
        """Answer a call; return its standard output. Raises CniFailure, OrbweaverError."""
        arrived = time.perf_counter()
        call = read_call(command, variables, stdin)
        conf = msgspec.json.decode(stdin, type=dict[str, Any])
        call = _with_log(call, conf)
        logged_call = LoggedCall(call.command, call.conf, call.attachment, call.pod)
        try:
            body, fields = await self._handlers[command](call, read_settings(conf))
        except Exception as error:
            self._call_log.log_failure(logged_call, failure_of(error), arrived)
            raise
        self._call_log.log_success(logged_call, arrived, fields)
        return body

    async def _answer_add(self, call: Call, settings: UnparsedSettings) -> CallResult:
        previous = call.conf.previous
        if previous is None:
            raise CniFailure(
                INVALID_CONFIG,
                "prevResult is missing: the coordinator must run after a plugin that creates the"
                " interface",
                "list the coordinator after that plugin in the network configuration",
            )
        fault = self._health.why_not_ready()
        if fault is not None:
            raise failure_of(fault).prefixed(UNHEALTHY_PREFIX)
        with self._runner.admit(ADD_DEADLINE_S):
            attached = await self._coordinator_handler.handle_add(call, settings)
        result = {"cniVersion": call.conf.cni_version} | previous
        if attached is None:
            return encode_result(result), {"mode": "disable"}
        return encode_result(_with_mac(result, call, attached.mac)), {
            "mode": attached.mode,
            "table": attached.table,
            "repeated": attached.repeated,
            "kernel_s": round(attached.kernel_s, 6),
        }

    async def _answer_delete(self, call: Call, settings: UnparsedSettings) -> CallResult:
        with self._runner.admit(DEL_DEADLINE_S):
            was_attached = await self._coordinator_handler.handle_delete(call, settings)
        return b"", {"found": was_attached}

    async def _answer_check(self, call: Call, settings: UnparsedSettings) -> CallResult:
        with self._runner.admit(CHECK_DEADLINE_S):
            await self._coordinator_handler.handle_check(call, settings)
        return b"", {}

    async def _answer_status(self, call: Call, settings: UnparsedSettings) -> CallResult:
        fault = self._health.why_not_ready()
        if fault is not None:
            raise CniFailure(NOT_AVAILABLE, fault.message, fault.remedy)
        return b"", {}

    async def _answer_gc(self, call: Call, settings: UnparsedSettings) -> CallResult:
        with self._runner.admit(GC_DEADLINE_S):
            result = await self._coordinator_handler.handle_gc(call)
        return b"", {"removed": result.removed, "missing": result.missing}


def _with_mac(result: dict[str, Any], call: Call, mac: bytes) -> dict[str, Any]:
    """The result with the NIC's new MAC address.

    Otherwise CHECK would fail in the plugin that created the NIC, which compares MAC addresses.
    """
    interfaces, name = result.get("interfaces"), call.attachment.interface
    if not mac or not isinstance(interfaces, list):
        return result
    changed = [
        entry | {"mac": mac_text(mac)}
        if isinstance(entry, dict) and entry.get("name") == name and entry.get("sandbox")
        else entry
        for entry in interfaces
    ]
    return result | {"interfaces": changed}


def _with_log(call: Call, raw_conf: dict[str, Any]) -> Call:
    """The call with ``logOptions`` in ``call.conf.ipam``, where the call log reads log options."""
    try:
        options = msgspec.convert(raw_conf.get("logOptions") or {}, LogOptions)
    except msgspec.ValidationError as error:
        raise CniFailure(INVALID_CONFIG, f"logOptions: {error}") from None
    log = IpamConf(
        log_level=options.log_level,
        log_file_path=options.log_file,
        log_file_max_size=options.log_max_size,
        log_file_max_age=options.log_max_age,
        log_file_max_count=options.log_max_count,
    )
    return call._replace(conf=msgspec.structs.replace(call.conf, ipam=log))
