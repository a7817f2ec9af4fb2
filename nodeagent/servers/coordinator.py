"""The calls of the executable ``coordinator``: each verb's answer, and a line in its own log.

ADD answers prevResult, in which nothing is new but a MAC address that it has changed. DEL and CHECK
need neither etcd nor the view; ADD needs the view, which knows what a Pod asks for.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec

from nodeagent.cni_protocol.call import Call, read_call
from nodeagent.cni_protocol.failures import (
    INVALID_CONFIG,
    NOT_AVAILABLE,
    UNHEALTHY,
    CniFailure,
    failure_of,
)
from nodeagent.cni_protocol.netconf import IpamConf
from nodeagent.cni_protocol.results import document
from nodeagent.coordinator.settings import WrittenSettings, read_settings
from nodeagent.gate import (
    ADD_DEADLINE_S,
    CHECK_DEADLINE_S,
    DEL_DEADLINE_S,
    GC_DEADLINE_S,
    Gate,
)
from nodeagent.handlers.coordinator_handler import CoordinatorHandler
from nodeagent.health import AgentHealth
from nodeagent.netlink.values import mac_text
from nodeagent.servers.call_log import CallLog, Logged

NAME: Final = "coordinator"

Done = tuple[bytes, dict[str, object]]
"""Standard output, and what the plugin's log shall say of it."""

Handler = Callable[[Call, WrittenSettings], Awaitable[Done]]

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]


class LogOptions(msgspec.Struct, frozen=True, rename="camel"):
    """``logOptions`` of a network configuration; 0 is not said."""

    log_level: str = "debug"
    log_file: str = ""
    log_max_size: _Count = 0
    log_max_age: _Count = 0
    log_max_count: _Count = 0


class Coordinator:
    """Answers the calls of its executable."""

    def __init__(
        self,
        gate: Gate,
        health: AgentHealth,
        coordinator_handler: CoordinatorHandler,
        call_log: CallLog,
    ) -> None:
        self._gate = gate
        self._health = health
        self._coordinator_handler = coordinator_handler
        self._call_log = call_log
        self._handlers: dict[str, Handler] = {
            "ADD": self._add,
            "DEL": self._delete,
            "CHECK": self._check,
            "STATUS": self._status,
            "GC": self._collect,
        }

    async def answer(self, verb: str, variables: dict[str, str], stdin: bytes) -> bytes:
        """Standard output of a success. Raises CniFailure, OrbweaverError."""
        arrived = time.perf_counter()
        call = read_call(verb, variables, stdin)
        said = msgspec.json.decode(stdin, type=dict[str, Any])
        call = _with_log(call, said)
        try:
            body, fields = await self._handlers[verb](call, read_settings(said))
        except Exception as error:
            self._call_log.failed(_logged(call), failure_of(error), arrived)
            raise
        self._call_log.done(_logged(call), arrived, fields)
        return body

    async def _add(self, call: Call, conf: WrittenSettings) -> Done:
        previous = call.conf.previous
        if previous is None:
            raise CniFailure(
                INVALID_CONFIG,
                "prevResult is missing: the coordinator runs behind a main plugin",
                "list it behind the main plugin in the network configuration",
            )
        fault = self._health.why_not_ready()
        if fault is not None:
            raise failure_of(fault).prefixed(UNHEALTHY)
        with self._gate.admit(ADD_DEADLINE_S):
            done = await self._coordinator_handler.add(call, conf)
        result = {"cniVersion": call.conf.cni_version} | previous
        if done is None:
            return document(result), {"mode": "disable"}
        return document(_with_mac(result, call, done.mac)), {
            "mode": done.mode,
            "table": done.table,
            "repeated": done.repeated,
            "kernel_s": round(done.kernel_s, 6),
        }

    async def _delete(self, call: Call, conf: WrittenSettings) -> Done:
        with self._gate.admit(DEL_DEADLINE_S):
            found = await self._coordinator_handler.delete(call, conf)
        return b"", {"found": found}

    async def _check(self, call: Call, conf: WrittenSettings) -> Done:
        with self._gate.admit(CHECK_DEADLINE_S):
            await self._coordinator_handler.check(call, conf)
        return b"", {}

    async def _status(self, call: Call, conf: WrittenSettings) -> Done:
        fault = self._health.why_not_ready()
        if fault is not None:
            raise CniFailure(NOT_AVAILABLE, fault.message, fault.remedy)
        return b"", {}

    async def _collect(self, call: Call, conf: WrittenSettings) -> Done:
        with self._gate.admit(GC_DEADLINE_S):
            collected = await self._coordinator_handler.collect(call)
        return b"", {"removed": collected.removed, "missing": collected.missing}


def _logged(call: Call) -> Logged:
    return Logged(call.verb, call.conf, call.attachment, call.pod)


def _with_mac(result: dict[str, Any], call: Call, mac: bytes) -> dict[str, Any]:
    """The result as it came, but for a MAC address that is another one now.

    The main plugin's CHECK compares that with the link.
    """
    interfaces, name = result.get("interfaces"), call.attachment.interface
    if not mac or not isinstance(interfaces, list):
        return result
    told = [
        each | {"mac": mac_text(mac)}
        if isinstance(each, dict) and each.get("name") == name and each.get("sandbox")
        else each
        for each in interfaces
    ]
    return result | {"interfaces": told}


def _with_log(call: Call, said: dict[str, Any]) -> Call:
    """The call with what ``logOptions`` says, where the call log looks for it."""
    try:
        options = msgspec.convert(said.get("logOptions") or {}, LogOptions)
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
