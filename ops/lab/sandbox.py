"""A Pod sandbox: a network namespace without processes, in which the kernel answers pings."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from typing import Any, Final

from nodeagent.netlink.numbers import RT_SCOPE_LINK
from ops.lab.namespaces import NamedNamespace

POD_INTERFACE: Final = "eth0"
CONTAINER_BYTES: Final = 32


class Sandbox:
    """One Pod sandbox."""

    def __init__(
        self, namespace: NamedNamespace, pod_namespace: str, pod: str, uid: str = ""
    ) -> None:
        self.namespace = namespace
        self.pod_namespace = pod_namespace
        self.pod = pod
        self.uid = uid or str(uuid.uuid4())
        self.container = secrets.token_hex(CONTAINER_BYTES)
        self.result: dict[str, Any] = {}
        """The result of the last ADD."""

    @property
    def arguments(self) -> str:
        """CNI_ARGS as containerd sets them."""
        variables = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.pod_namespace,
            "K8S_POD_NAME": self.pod,
            "K8S_POD_INFRA_CONTAINER_ID": self.container,
            "K8S_POD_UID": self.uid,
        }
        return ";".join(f"{name}={value}" for name, value in variables.items())

    @property
    def addresses(self) -> list[str]:
        """The addresses of the last ADD, without prefix length."""
        return addresses_in(self.result)

    def create(self) -> None:
        """Create the network namespace. Raises LabFailed."""
        self.namespace.create()
        # Duplicate address detection would delay each Pod by two seconds.
        self.namespace.set_sysctl("net/ipv6/conf/default/accept_dad", "0")

    def destroy(self) -> None:
        """Remove the network namespace, but run no DEL. Raises LabFailed."""
        if not self.namespace.exists:
            return
        # The kernel removes the namespace later. Until then its interface would answer pings.
        self.namespace.netlink(_delete_interface)
        self.namespace.delete()

    def kernel_addresses(self) -> list[str]:
        """The addresses of the interface, except link-local ones. Raises LabFailed."""
        return self.namespace.netlink(_addresses_of_interface)

    def reaches(self, address: str) -> bool:
        """Whether the address answers one ping."""
        return self.ping(address) is not None

    def ping(self, address: str) -> float | None:
        """The round-trip time of a ping in ms; None without an answer. Raises LabFailed."""
        return self.namespace.ping(address)


def _delete_interface(route: Any) -> None:  # noqa: ANN401  # pyroute2 has no types
    for index in route.link_lookup(ifname=POD_INTERFACE):
        route.link("del", index=index)


def _addresses_of_interface(route: Any) -> list[str]:  # noqa: ANN401  # pyroute2 has no types
    (index,) = route.link_lookup(ifname=POD_INTERFACE)
    entries = [entry for entry in route.get_addr(index=index) if entry["scope"] < RT_SCOPE_LINK]
    return [entry.get_attr("IFA_ADDRESS") for entry in entries]


def addresses_in(result: Mapping[str, Any]) -> list[str]:
    """The addresses of a CNI result, without prefix length."""
    return [entry["address"].partition("/")[0] for entry in result.get("ips", [])]
