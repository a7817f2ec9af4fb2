"""Encodes CNI requests as the binary frames that the agent's socket accepts.

A serial number stands for a Pod. See docs/reference/cni-executables.md, "Framing". No code is
shared with the executables or the agent.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

NAMESPACE = "shop"
INTERFACE = "eth0"
FIRST_NEW_SERIAL = 1 << 32
"""The serial number of the first Pod that a benchmark adds.

Pods that are written to etcd in advance have smaller numbers.
"""

REPLICA_SETS = 911
"""The number of ReplicaSets in the names of Pods; it is arbitrary."""

_HASH_FACTOR = 0x9E3779B97F4A7C15F39CC0605CEDC8341082276BF3A27251F86C6A11D0C18E95
"""An odd factor gives no two Pods the same container id."""


class PodIdentity(NamedTuple):
    """The names of a Pod and its sandbox."""

    name: str
    uid: str
    container: str
    netns: str


def identity(serial: int) -> PodIdentity:
    """The Pod with this serial number."""
    return PodIdentity(
        f"web-{serial % REPLICA_SETS:x}-{serial:x}",
        f"0a1b2c3d-{serial >> 48 & 0xFFFF:04x}-4000-8000-{serial & 0xFFFFFFFFFFFF:012x}",
        f"{serial * _HASH_FACTOR % (1 << 256):064x}",
        f"/var/run/netns/cni-{serial:x}",
    )


def netconf(pools: Sequence[str] = (), socket_path: str = "") -> bytes:
    """A network configuration. Without ``pools``, an ADD uses the default pools."""
    ipam: dict[str, Any] = {"type": "spiderpool"}
    if pools:
        ipam["default_ipv4_ippool"] = list(pools)
    if socket_path:
        ipam["ipam_unix_socket_path"] = socket_path
    conf = {"cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "master": "eth0", "ipam": ipam}
    return json.dumps(conf).encode()


def environment(verb: str, serial: int) -> dict[str, str]:
    """The environment variables of a CNI request."""
    pod = identity(serial)
    return {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": pod.container,
        "CNI_NETNS": pod.netns,
        "CNI_IFNAME": INTERFACE,
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={NAMESPACE};K8S_POD_NAME={pod.name};"
        f"K8S_POD_INFRA_CONTAINER_ID={pod.container};K8S_POD_UID={pod.uid}",
        "CNI_PATH": "/opt/cni/bin",
    }


def frame(verb: str, serial: int, conf: bytes) -> bytes:
    """The frame of one request."""
    variables = environment(verb, serial).items()
    block = b"".join(f"{name}={value}\0".encode() for name, value in variables)
    body = block + b"\0" + conf
    return b"OWC1" + struct.pack(">I", len(body)) + body
