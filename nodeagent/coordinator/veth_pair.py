"""The veth pair of an underlay Pod: one end in the Pod, the other on the node. Calls block.

The name of the host veth identifies the container, even without an attachment record.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EEXIST
from typing import Final

from core.errors import DatapathError
from nodeagent.coordinator.network_stacks import POD_VETH, VethPair
from nodeagent.coordinator.stack_reader import read_veth
from nodeagent.netlink import replies, requests
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace, write_sysctls
from nodeagent.netlink.requests import VethEnd
from nodeagent.netlink.session import NetlinkSession, check
from nodeagent.netlink.values import Mac

HOST_VETH_PREFIX: Final = "veth"
HOST_VETH_ID_CHARACTERS: Final = 11
"""With the prefix, the name has 15 characters, the most that Linux allows."""

MAC_BYTES: Final = 6

REMEDY: Final = "delete the Pod; its controller creates a new Pod"


class VethPairs:
    """Creates and removes veth pairs. ``node``: the node's network namespace."""

    def __init__(
        self,
        executor: NetnsExecutor,
        node: NetworkNamespace,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._executor = executor
        self._node = node
        self._random_bytes = random_bytes

    def create(
        self, container: str, mtu: int, namespace: NetworkNamespace, host: NetlinkSession
    ) -> VethPair:
        """Create the veth pair between a Pod's namespace and the node. Raises DatapathError."""
        name = host_veth_name(container)
        host_end, pod_end = VethEnd(name, self._mac()), VethEnd(POD_VETH, self._mac())
        creations = (
            requests.add_veth(host_end, pod_end, mtu=mtu, far_netns_fd=namespace.fd),
            requests.get_link(name),
        )
        outcomes = host.attempt(creations)
        if outcomes[0].errno == EEXIST:
            # No other container uses this name: the link is left from an earlier ADD.
            outcomes = host.attempt([requests.delete_link(name), *creations])[1:]
        for creation, outcome in zip(creations, outcomes, strict=True):
            check(creation, outcome)
        host_veth = replies.link(memoryview(outcomes[-1].answer))
        write_sysctls(self._executor, self._node, {f"net/ipv6/conf/{name}/accept_ra": "0"})
        # The ``parent`` of a veth is the index of the other end.
        return VethPair(host_veth.parent, pod_end.mac, host_veth.ifindex, host_end.mac, name)

    def remove(self, container: str, pod: NetlinkSession, host: NetlinkSession) -> None:
        """Remove the pair of an ADD that did not finish. Raises DatapathError."""
        pair = read_veth(pod, host, POD_VETH)
        name = host_veth_name(container)
        if pair.host_name != name:
            # Users may search for Spiderpool's text.
            text = f"container veth name {POD_VETH} with peer {pair.host_name} already exists"
            raise DatapathError(text, subject=POD_VETH, remedy=REMEDY)
        host.apply([requests.delete_link(name)])

    def _mac(self) -> Mac:
        """A random address, unicast and locally administered (IEEE 802-2014, 8.4)."""
        random = self._random_bytes(MAC_BYTES)
        return bytes([random[0] & 0xFE | 0x02]) + random[1:]


def host_veth_name(container: str) -> str:
    """The name of an underlay Pod's host veth."""
    return HOST_VETH_PREFIX + container[:HOST_VETH_ID_CHARACTERS]
