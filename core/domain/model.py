"""The domain objects: pool, subnet, reservation, quarantine, claim, NIC, endpoint, holder.

Plain immutable values (``NamedTuple``: the codec writes them as msgpack arrays). New fields are
added at the end and have a default, so that old logs stay readable. Addresses are stored as
canonical text, which users search for; for arithmetic see ``core.domain.addresses.address_set``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.domain.addresses.ip_address import Family
from core.domain.patterns.labels import LabelSelector

FixedKind = Literal["statefulset", "vm", "ipamclaim"]
"""Owners that keep their addresses when their Pod is created again."""


class Route(NamedTuple):
    """A route of a Pod. ``dst``: a CIDR; ``gw``: an address of the same family."""

    dst: str
    gw: str


class Pool(NamedTuple):
    """A SpiderIPPool. Texts are as stored: merged items, canonical ``subnet``.

    See docs/reference/custom-resources.md, "SpiderIPPool".

    ``routes`` None: not specified, so that a subnet's routes are used; (): no routes.
    ``retiring``: deletion has begun; new claims are refused, releases are not.
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
    """A SpiderSubnet: addresses that are divided among its pools.

    See docs/reference/custom-resources.md, "SpiderSubnet".

    Texts are as stored, ``routes`` as in a pool. The addresses that a pool has of the subnet are
    stored only in the pool (``core.domain.subnets.subnet_model``). ``retiring``: deletion has
    begun.
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
    """A SpiderReservedIP: addresses that cannot be claimed from any pool of the family."""

    name: str
    family: Family
    ips: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ConflictingHost(NamedTuple):
    """Another host that uses an address of a pool, as observed by a probe.

    ``mac``: from its reply. ``seen_by``: the actor that observed it, on ``node`` and ``interface``,
    at ``seen_ms`` (Unix milliseconds by its clock). An unknown field is "" or 0.
    """

    mac: str = ""
    seen_by: str = ""
    node: str = ""
    interface: str = ""
    seen_ms: int = 0


class Quarantine(NamedTuple):
    """An address that cannot be claimed. ``evidence``: what was observed (a MAC address, a node).

    ``conflicting_host`` None: a user has quarantined it, and only a user lifts the quarantine.
    """

    address: str
    family: Family
    reason: str
    evidence: str = ""
    conflicting_host: ConflictingHost | None = None


class Attachment(NamedTuple):
    """One CNI attachment, as the runtime names it in DEL and GC."""

    container: str
    interface: str
    network: str = ""
    netns: str = ""


class Claim(NamedTuple):
    """The claim of an address. A release names the claim by the etcd revision of the claim's key.

    ``pod``: the name of the endpoint (``Endpoint.name``). ``event``: the id of the event that made
    the claim.
    """

    pool: str
    holder: str
    namespace: str
    pod: str
    event: str


class Nic(NamedTuple):
    """One interface of an endpoint, with its attachment.

    See docs/reference/custom-resource-rules.md, "SpiderEndpoint", ``current.ips[]``.

    ``ipv4`` and ``ipv6``: address with prefix length, "" for none. ``interface`` "": the Pod's
    annotation does not name it, and no ADD has named it yet. ``clean_gateway``: it gets no default
    route although it has a gateway. ``container`` "": there was no ADD for this NIC yet.
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
        """The NIC with the container, interface, network and netns of this attachment."""
        # Not ``_replace``, which takes three times as long: every ADD calls this.
        container, interface, network, netns = attachment
        return Nic._make((interface, *self[1:-3], container, network, netns))

    def cidrs(self) -> list[str]:
        """The NIC's addresses with prefix length."""
        return [cidr for cidr in (self.ipv4, self.ipv6) if cidr]

    def addresses(self) -> tuple[tuple[str, str], ...]:
        """The (address, pool) pairs of the NIC; addresses without prefix length."""
        pairs = ((self.ipv4, self.ipv4_pool), (self.ipv6, self.ipv6_pool))
        # A list, because a generator takes twice as long and a scan calls this for every NIC.
        return tuple([(cidr.partition("/")[0], pool) for cidr, pool in pairs if cidr])


class Scale(NamedTuple):
    """The size of a workload; a field that it does not specify is None.

    ``desired``: ``status.desiredNumberScheduled`` of a DaemonSet. ``completions`` and
    ``parallelism`` of a CronJob are those of its Job template.
    """

    replicas: int | None = None
    desired: int = 0
    completions: int | None = None
    parallelism: int | None = None


class Workload(NamedTuple):
    """The fields of an application's object; ``annotations`` are those of its Pod template."""

    annotations: dict[str, str] = {}
    scale: Scale = Scale()
    host_network: bool = False


class Owner(NamedTuple):
    """A controller; ``api_version`` as in ``apps/v1``. A Pod without a controller owns itself."""

    kind: str
    name: str
    namespace: str = ""
    api_version: str = "v1"
    uid: str = ""


class Endpoint(NamedTuple):
    """A SpiderEndpoint: the NICs of one holder, with all addresses that it has claimed.

    ``name``: that of the Pod, of the VM for a VM's Pods, or that of an IPAMClaim with a suffix.
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
        """(namespace, name) of the endpoint."""
        return self.namespace, self.name

    def addresses(self) -> tuple[tuple[str, str], ...]:
        """Every (address, pool) pair of every NIC."""
        return tuple(pair for nic in self.nics for pair in nic.addresses())

    def find(self, interface: str) -> Nic | None:
        """The NIC of that name, or None."""
        for nic in self.nics:
            if nic.interface == interface:
                return nic
        return None


def pod_holder(uid: str) -> str:
    """The holder of a stateless Pod's addresses: its UID, never its name."""
    return f"pod/{uid}"


def stateful_holder(kind: FixedKind, namespace: str, name: str) -> str:
    """The holder of fixed addresses: a replica, VM or IPAMClaim by name, across its Pods."""
    return f"{kind}/{namespace}/{name}"
