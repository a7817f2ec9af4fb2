"""A client of the container runtime interface (CRI): gRPC over a unix socket, package runtime.v1.

``MESSAGES`` has the field numbers of api.proto. In ``MESSAGES``, "*" before a type means repeated,
and "%" means a map from string to string.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from core.protobuf import Table, message_classes

CALL_DEADLINE_S = 60.0
SERVICE = "/runtime.v1.RuntimeService"
READY = 0
"""PodSandboxState.SANDBOX_READY."""

MESSAGES: Table = {
    "PodSandboxMetadata": {
        "name": (1, "string"),
        "uid": (2, "string"),
        "namespace": (3, "string"),
        "attempt": (4, "uint32"),
    },
    "DNSConfig": {"servers": (1, "*string")},
    "LinuxPodSandboxConfig": {"cgroup_parent": (1, "string")},
    "PodSandboxConfig": {
        "metadata": (1, "PodSandboxMetadata"),
        "hostname": (2, "string"),
        "log_directory": (3, "string"),
        "dns_config": (4, "DNSConfig"),
        "linux": (8, "LinuxPodSandboxConfig"),
    },
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig")},
    "RunPodSandboxResponse": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxResponse": {},
    "RemovePodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "RemovePodSandboxResponse": {},
    "PodSandboxStatusRequest": {"pod_sandbox_id": (1, "string"), "verbose": (2, "bool")},
    "PodIP": {"ip": (1, "string")},
    "PodSandboxNetworkStatus": {"ip": (1, "string"), "additional_ips": (2, "*PodIP")},
    "PodSandboxStatus": {
        "id": (1, "string"),
        "state": (3, "int32"),
        "network": (5, "PodSandboxNetworkStatus"),
    },
    "PodSandboxStatusResponse": {"status": (1, "PodSandboxStatus"), "info": (2, "%")},
    "ListPodSandboxRequest": {},
    "PodSandbox": {"id": (1, "string"), "state": (3, "int32")},
    "ListPodSandboxResponse": {"items": (1, "*PodSandbox")},
    "StatusRequest": {"verbose": (1, "bool")},
    "RuntimeCondition": {"type": (1, "string"), "status": (2, "bool"), "message": (4, "string")},
    "RuntimeStatus": {"conditions": (1, "*RuntimeCondition")},
    "StatusResponse": {"status": (1, "RuntimeStatus"), "info": (2, "%")},
}


class Status(NamedTuple):
    """The status of a sandbox. ``pid`` is 0 when the sandbox's process has ended."""

    ready: bool
    addresses: tuple[str, ...]
    pid: int


class RuntimeRefused(Exception):
    """The runtime answered with an error."""


class RuntimeService:
    """One connection to a container runtime; its calls raise ``RuntimeRefused``."""

    def __init__(self, path: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{path}")
        self._types = message_classes("runtime.v1", MESSAGES)

    def close(self) -> None:
        self._channel.close()

    def unmet_conditions(self) -> list[str]:
        """The conditions that are not true; empty if the runtime can run sandboxes."""
        conditions = self._call("Status").status.conditions
        return [
            condition.message or condition.type for condition in conditions if not condition.status
        ]

    def networks(self) -> list[str]:
        """The networks to which the runtime attaches new sandboxes."""
        config = json.loads(self._call("Status", verbose=True).info.get("cniconfig") or "{}")
        return [network["Config"]["Name"] for network in config.get("Networks") or ()]

    def run(self, config: Mapping[str, Any]) -> str:
        """Run a sandbox; return its id."""
        return str(self._call("RunPodSandbox", config=config).pod_sandbox_id)

    def stop(self, sandbox: str) -> None:
        self._call("StopPodSandbox", pod_sandbox_id=sandbox)

    def remove(self, sandbox: str) -> None:
        self._call("RemovePodSandbox", pod_sandbox_id=sandbox)

    def sandboxes(self) -> list[str]:
        """The ids of all sandboxes."""
        return [sandbox.id for sandbox in self._call("ListPodSandbox").items]

    def status(self, sandbox: str) -> Status:
        answer = self._call("PodSandboxStatus", pod_sandbox_id=sandbox, verbose=True)
        network = answer.status.network
        addresses = [network.ip, *(additional.ip for additional in network.additional_ips)]
        info = json.loads(answer.info.get("info") or "{}")
        return Status(
            answer.status.state == READY, tuple(filter(None, addresses)), int(info.get("pid", 0))
        )

    def _call(self, method: str, **fields: Any) -> Any:
        call: Callable[..., Any] = self._channel.unary_unary(
            f"{SERVICE}/{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=self._types[f"{method}Response"].FromString,
        )
        try:
            # wait_for_ready: the runtime may still be starting.
            return call(
                self._types[f"{method}Request"](**fields),
                timeout=CALL_DEADLINE_S,
                wait_for_ready=True,
            )
        except grpc.RpcError as error:
            raise RuntimeRefused(str(error.details())) from None
