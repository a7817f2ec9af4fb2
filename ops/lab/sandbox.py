"""A Pod as a runtime sees it: a network namespace, an id, and the names Kubernetes gave it.

No process runs in it: its network stack alone answers, and that is all that IPAM is about.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from typing import Any, Final

from ops.lab.namespaces import NamedNamespace

INTERFACE: Final = "eth0"
CONTAINER_BYTES: Final = 32


class Sandbox:
    """One Pod sandbox. A Pod that is made anew is another sandbox of the same name."""

    def __init__(
        self, namespace: NamedNamespace, pod_namespace: str, pod: str, uid: str = ""
    ) -> None:
        self.namespace = namespace
        self.pod_namespace = pod_namespace
        self.pod = pod
        self.uid = uid or str(uuid.uuid4())
        self.container = secrets.token_hex(CONTAINER_BYTES)
        self.result: dict[str, Any] = {}
        """The result of its last ADD."""

    @property
    def arguments(self) -> str:
        """CNI_ARGS as containerd sets them."""
        said = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.pod_namespace,
            "K8S_POD_NAME": self.pod,
            "K8S_POD_INFRA_CONTAINER_ID": self.container,
            "K8S_POD_UID": self.uid,
        }
        return ";".join(f"{name}={value}" for name, value in said.items())

    @property
    def addresses(self) -> list[str]:
        """The addresses of its last ADD, without prefix length."""
        return addresses_in(self.result)

    def create(self) -> None:
        """Make its network namespace. Raises LabFailed."""
        self.namespace.create()
        # Addresses are usable at once: duplicate detection would cost two seconds a Pod.
        self.namespace.set("net/ipv6/conf/default/accept_dad", "0")

    def destroy(self) -> None:
        """Remove its network namespace, as a crash would: nobody is told. Raises LabFailed."""
        if not self.namespace.exists:
            return
        # The kernel takes a namespace down in its own time, and until then the interface would go
        # on answering for its addresses. There is none if no ADD has come that far.
        self.namespace.attempt("ip", "link", "delete", INTERFACE)
        self.namespace.delete()

    def kernel_addresses(self) -> list[str]:
        """What the kernel says, without link-local addresses. Raises LabFailed."""
        lines = self.namespace.ip("-brief", "address", "show", "dev", INTERFACE).split()[2:]
        return [text.partition("/")[0] for text in lines if not text.startswith("fe80:")]

    def reaches(self, address: str) -> bool:
        """Whether one ping is answered."""
        return self.ping(address) is not None

    def ping(self, address: str) -> float | None:
        """The milliseconds of one ping; None if nobody answers. Raises LabFailed."""
        return self.namespace.ping(address)


def addresses_in(result: Mapping[str, Any]) -> list[str]:
    """The addresses of a CNI result, without prefix length."""
    return [entry["address"].partition("/")[0] for entry in result.get("ips", [])]
