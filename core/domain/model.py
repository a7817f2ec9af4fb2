"""The domain objects: pool, subnet, reservation, quarantine, claim, NIC, endpoint, holder.

Add a new field of a ``NamedTuple`` at the end, with a default: logs store msgpack arrays, and old
logs stay readable. Addresses are canonical text.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.domain.addresses.ip_address import Family
from core.domain.patterns.labels import LabelSelector

FixedKind = Literal["statefulset", "vm", "ipamclaim"]
"""Kinds of owners whose addresses outlive the Pod."""


class Route(NamedTuple):
    """A route of a Pod. ``dst``: a CIDR. ``gw``: an address of the same family."""

    dst: str
    gw: str


class Pool(NamedTuple):
    """A SpiderIPPool. See docs/reference/custom-resources.md, "SpiderIPPool".

    ``routes``: None means the routes of the subnet; () means no routes.
    ``retiring``: deletion has begun. New claims are refused; releases are accepted.
    """

    name: str
    family: Family
    subnet: str
    ips: tuple[str, ...] = ()
    exclude_ips: tuple[str, ...] = ()
    gateway: str = ""
    routes: tuple[Route, ...] | None = None
    pod_affinity: LabelSelector | None = None
    namespace_affinity: LabelSelector | None = None
    namespace_names: tuple[str, ...] = ()
    node_affinity: LabelSelector | None = None
    node_names: tuple[str, ...] = ()
    multus_names: tuple[str, ...] = ()
    default: bool = False
    disabled: bool = False
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    retiring: bool = False


class Subnet(NamedTuple):
    """A SpiderSubnet: addresses that are divided among pools.

    See docs/reference/custom-resources.md, "SpiderSubnet". Which of the addresses a pool has is
    stored only in the pool. ``retiring``: deletion has begun.
    """

    name: str
    family: Family
    subnet: str
    ips: tuple[str, ...] = ()
    exclude_ips: tuple[str, ...] = ()
    gateway: str = ""
    routes: tuple[Route, ...] | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    retiring: bool = False


class Reservation(NamedTuple):
    """A SpiderReservedIP: addresses that cannot be claimed."""

    name: str
    family: Family
    ips: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ConflictingHost(NamedTuple):
    """Another host that uses an address of a pool. "" or 0: unknown.

    ``seen_by``: the actor that found the host, on ``node`` and ``interface``.
    ``seen_ms``: Unix milliseconds, by the clock of the actor.
    """

    mac: str = ""
    seen_by: str = ""
    node: str = ""
    interface: str = ""
    seen_ms: int = 0


class Quarantine(NamedTuple):
    """An address that cannot be claimed. ``evidence``: what was observed.

    ``conflicting_host``: if it is None, only a user can lift the quarantine.
    """

    address: str
    family: Family
    reason: str
    evidence: str = ""
    conflicting_host: ConflictingHost | None = None


class Attachment(NamedTuple):
    """One CNI attachment, with the fields by which DEL and GC name it."""

    container: str
    interface: str
    network: str = ""
    netns: str = ""


class Claim(NamedTuple):
    """The claim of an address.

    ``pod``: the name of the endpoint. ``event``: the id of the event that made the claim.
    """

    pool: str
    holder: str
    namespace: str
    pod: str
    event: str


class Nic(NamedTuple):
    """One interface of an endpoint, with its attachment.

    See docs/reference/custom-resource-rules.md, "SpiderEndpoint", ``current.ips[]``.

    ``interface``, ``container``: "" before the ADD.
    ``ipv4``, ``ipv6``: an address with prefix length; "": none.
    ``clean_gateway``: the NIC gets no default route.
    """

    interface: str
    ipv4: str = ""
    ipv4_pool: str = ""
    ipv4_gateway: str = ""
    ipv6: str = ""
    ipv6_pool: str = ""
    ipv6_gateway: str = ""
    clean_gateway: bool = False
    routes: tuple[Route, ...] = ()
    vlan: int = 0
    mac: str = ""
    container: str = ""
    network: str = ""
    netns: str = ""

    def attached(self, attachment: Attachment) -> Nic:
        """The NIC with the fields of this attachment."""
        # Every ADD calls this; ``_replace`` takes three times as long.
        container, interface, network, netns = attachment
        return Nic._make((interface, *self[1:-3], container, network, netns))

    def cidrs(self) -> list[str]:
        """The addresses with prefix length."""
        return [cidr for cidr in (self.ipv4, self.ipv6) if cidr]

    def addresses(self) -> tuple[tuple[str, str], ...]:
        """The (address, pool) pairs; addresses without prefix length."""
        pairs = ((self.ipv4, self.ipv4_pool), (self.ipv6, self.ipv6_pool))
        # A scan calls this for every NIC; a generator takes twice as long as a list.
        return tuple([(cidr.partition("/")[0], pool) for cidr, pool in pairs if cidr])


class Scale(NamedTuple):
    """The size of a workload. None: not specified.

    ``desired``: ``status.desiredNumberScheduled`` of a DaemonSet.
    """

    replicas: int | None = None
    desired: int = 0
    completions: int | None = None
    parallelism: int | None = None


class Workload(NamedTuple):
    """A workload object. ``annotations``: the annotations of the Pod template."""

    annotations: dict[str, str] = {}
    scale: Scale = Scale()
    host_network: bool = False


class Owner(NamedTuple):
    """A controller. A Pod without a controller owns itself."""

    kind: str
    name: str
    namespace: str = ""
    api_version: str = "v1"
    uid: str = ""


class Endpoint(NamedTuple):
    """A SpiderEndpoint: the NICs of one holder, with all addresses that the holder has claimed.

    ``name``: the name of the Pod or VM, or the name of the IPAMClaim and a suffix.
    """

    namespace: str
    name: str
    uid: str
    node: str
    holder: str
    owner_kind: str
    owner_name: str
    nics: tuple[Nic, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    def addresses(self) -> tuple[tuple[str, str], ...]:
        """The (address, pool) pairs of all NICs."""
        return tuple(pair for nic in self.nics for pair in nic.addresses())

    def find(self, interface: str) -> Nic | None:
        for nic in self.nics:
            if nic.interface == interface:
                return nic
        return None


def pod_holder(uid: str) -> str:
    """The holder of a stateless Pod's addresses. The UID is unique; a name can be used again."""
    return f"pod/{uid}"


def stateful_holder(kind: FixedKind, namespace: str, name: str) -> str:
    """The holder of fixed addresses."""
    return f"{kind}/{namespace}/{name}"
