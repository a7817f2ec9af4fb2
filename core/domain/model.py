"""The nouns: pool, subnet, reservation, quarantine, claim, NIC, endpoint, holder.

Plain immutable values (``NamedTuple``: the codec writes them as msgpack arrays). New fields go to
the end and have a default, so that old logs stay readable. Addresses are kept as canonical text
because that is what people search for; arithmetic happens in
``core.domain.addresses.address_set``. Nothing here decides anything.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.domain.addresses.ip_address import Family
from core.domain.patterns.labels import LabelSelector

FixedKind = Literal["statefulset", "vm"]
"""What keeps its addresses across its Pods."""


class Route(NamedTuple):
    """A route a Pod gets: ``dst`` a CIDR, ``gw`` an address of the same family."""

    dst: str
    gw: str


class Pool(NamedTuple):
    """A SpiderIPPool. Texts are as stored: merged items, canonical ``subnet``.

    See docs/reference/custom-resources.md, "SpiderIPPool".

    ``routes`` None means "not given" (a subnet may pass on its own), () means "none, on purpose".
    ``retiring``: deletion has begun, no new claims, releases go on.
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
    """A SpiderSubnet: addresses that its pools share out among themselves.

    See docs/reference/custom-resources.md, "SpiderSubnet".

    Texts are as stored, ``routes`` as in a pool. What each pool has of it is nowhere written twice:
    it is the pool's own addresses (``core.domain.subnets.subnet_model``). ``retiring``: deletion
    has begun.
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
    """A SpiderReservedIP: addresses never handed out of any pool of the family."""

    name: str
    family: Family
    ips: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ConflictingHost(NamedTuple):
    """Who uses an address of ours, and how that is known.

    ``mac`` as the stranger answered, ``seen_by`` the actor that saw it, from which ``node`` and
    ``interface``, and when (Unix milliseconds by its clock); "" and 0 for what nobody knows.
    """

    mac: str = ""
    seen_by: str = ""
    node: str = ""
    interface: str = ""
    seen_ms: int = 0


class Quarantine(NamedTuple):
    """An address seen in use by a stranger. ``evidence`` says who saw what (a MAC, a node).

    ``stranger`` None: a person has set it aside, and nothing but a person lifts it.
    """

    address: str
    family: Family
    reason: str
    evidence: str = ""
    stranger: ConflictingHost | None = None


class Attachment(NamedTuple):
    """One CNI attachment: what the runtime names in DEL and GC."""

    container: str
    interface: str
    network: str = ""
    netns: str = ""


class Claim(NamedTuple):
    """An address held; the etcd revision of its key is the fence of its release (I3).

    ``pod`` is the endpoint's name (the VM's for VMs), ``event`` the id of the event that made the
    claim.
    """

    pool: str
    holder: str
    namespace: str
    pod: str
    event: str


class Nic(NamedTuple):
    """One interface of an endpoint, with its attachment.

    See docs/reference/custom-resource-rules.md, "SpiderEndpoint", ``current.ips[]``.

    ``ipv4``/``ipv6``: address with prefix length, "" for none. ``interface`` is "" for an open
    entry of the unnamed multi-NIC mode. ``container`` "" means that no runtime has asked for this
    NIC yet.
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

    # Made in one step, because ``_replace`` takes three times as long and every ADD needs both.

    def holding(self, family: Family, cidr: str, pool: str, gateway: str) -> Nic:
        """The same NIC with this address of a family."""
        if family == 4:
            return Nic._make((self.interface, cidr, pool, gateway, *self[4:]))
        return Nic._make((*self[:4], cidr, pool, gateway, *self[7:]))

    def attached(self, attachment: Attachment) -> Nic:
        """The same NIC under the names of this attachment."""
        container, interface, network, netns = attachment
        return Nic._make((interface, *self[1:-3], container, network, netns))

    def cidrs(self) -> list[str]:
        """Its addresses with prefix length."""
        return [cidr for cidr in (self.ipv4, self.ipv6) if cidr]

    def addresses(self) -> tuple[tuple[str, str], ...]:
        """The (address, pool) pairs this NIC holds; addresses without prefix length."""
        pairs = ((self.ipv4, self.ipv4_pool), (self.ipv6, self.ipv6_pool))
        # A list, because a scan asks for every NIC there is and generators take twice as long.
        return tuple([(cidr.partition("/")[0], pool) for cidr, pool in pairs if cidr])


class Scale(NamedTuple):
    """What a workload says of its size; None where it does not.

    ``desired``: ``status.desiredNumberScheduled`` of a DaemonSet. ``completions`` and
    ``parallelism`` of a CronJob are those of its Job template.
    """

    replicas: int | None = None
    desired: int = 0
    completions: int | None = None
    parallelism: int | None = None


class Workload(NamedTuple):
    """What an application's object says of its Pods: ``annotations`` of the innermost template."""

    annotations: dict[str, str] = {}
    scale: Scale = Scale()
    host_network: bool = False


class Owner(NamedTuple):
    """A controller; ``api_version`` as in ``apps/v1``. A Pod without one owns itself."""

    kind: str
    name: str
    namespace: str = ""
    api_version: str = "v1"
    uid: str = ""


class Endpoint(NamedTuple):
    """All claims of one holder (SpiderEndpoint), by namespace and Pod (for VMs: VM) name."""

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
        """(namespace, name): how an endpoint is found."""
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
    """Who owns the addresses of a stateless Pod: its UID, never its name."""
    return f"pod/{uid}"


def stateful_holder(kind: FixedKind, namespace: str, name: str) -> str:
    """Who owns fixed addresses: the replica or the VM by name, across its Pods."""
    return f"{kind}/{namespace}/{name}"
