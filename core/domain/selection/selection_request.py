"""The values of pool selection: the request, the requested pools, the result.

Pool names are in the order in which the pools are tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import V4, V6, Family
from core.domain.events import PoolVerdict
from core.domain.model import Route

CLUSTER_INTERFACE: Final = "eth0"
"""The NIC of the cluster network. An annotation without interface names calls it "0"."""

NICS_MAX: Final = 24
"""One transaction must release all addresses of a Pod."""

ADDRESSES_MAX: Final = 24
"""A transaction has fewer than 128 guards, and an address may need five.

The guards: the claim, the cool-down, the quarantine, the pool, an older claim that is replaced.
"""

PASSED_OVER_MAX: Final = 16
"""The most rejected pools that an event stores."""

DETAIL_CHARS_MAX: Final = 200

FAMILY_NAMES: Final[dict[Family, str]] = {V4: "IPv4", V6: "IPv6"}

SOURCE_POD_SUBNETS: Final = "pod-subnets"
SOURCE_POD_IPPOOLS: Final = "pod-ippools"
SOURCE_POD_IPPOOL: Final = "pod-ippool"
SOURCE_NAMESPACE: Final = "namespace"
SOURCE_CNI_CONF: Final = "cni-conf"
SOURCE_DEFAULT_POOLS: Final = "default-pools"


class SelectionRequest(NamedTuple):
    """The part of a CNI ADD that selection uses.

    ``clean_gateway``: the NIC gets no default route.
    ``match_master_subnet``: the pool must be in a subnet of the NIC's SR-IOV master.
    ``master_addresses``: the addresses of this master, with or without prefix length; None if
    unreadable.
    """

    interface: str
    default_ipv4_pools: tuple[str, ...] = ()
    default_ipv6_pools: tuple[str, ...] = ()
    clean_gateway: bool = False
    match_master_subnet: bool = False
    master_addresses: tuple[str, ...] | None = None


class SelectionSettings(NamedTuple):
    """The cluster's settings that affect selection.

    ``multus_namespace``: the namespace of a default network whose name contains none.
    """

    ipv4_enabled: bool = True
    ipv6_enabled: bool = True
    subnets_enabled: bool = False
    auto_pools_enabled: bool = False
    multus_cluster_network: str = ""
    agent_namespace: str = "kube-system"
    multus_namespace: str = "kube-system"

    def enabled(self, family: Family) -> bool:
        return self.ipv4_enabled if family == V4 else self.ipv6_enabled


class NicPools(NamedTuple):
    """The pools requested for one NIC, before the filters."""

    interface: str
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()
    clean_gateway: bool = False

    def lists(self) -> Iterator[tuple[Family, tuple[str, ...]]]:
        """(family, names) of each requested family, IPv4 first."""
        if self.ipv4:
            yield V4, self.ipv4
        if self.ipv6:
            yield V6, self.ipv6


class Note(NamedTuple):
    """A remark about the selection of one NIC."""

    interface: str
    text: str


class Candidates(NamedTuple):
    """The pools that one source names, for all NICs that are allocated together.

    ``unnamed``: the annotation names no interfaces, so ``nics`` has "0", "1", ... instead
    (docs/reference/annotations.md, "Unnamed interfaces").
    """

    source: str
    nics: tuple[NicPools, ...]
    unnamed: bool = False
    notes: tuple[Note, ...] = ()

    def find(self, interface: str) -> NicPools | None:
        return next((nic for nic in self.nics if nic.interface == interface), None)

    def requested_nic(self, request: SelectionRequest) -> NicPools | None:
        if not self.unnamed:
            return self.find(request.interface)
        return self.nics[0] if request.interface == CLUSTER_INTERFACE else None


class Demand(NamedTuple):
    """A NIC and a family that need an address, and one or more pools to try in this order."""

    interface: str
    family: Family
    pools: tuple[str, ...]
    clean_gateway: bool


class CandidateVerdict(NamedTuple):
    """The ``FilterDecision`` about one pool."""

    interface: str
    family: Family
    pool: str
    accepted: bool
    rule: str
    reason: str
    detail: str = ""

    def short(self) -> PoolVerdict:
        """The verdict as events store it."""
        interface, family, pool, accepted, rule, _, detail = self
        return PoolVerdict(interface, family, pool, accepted, rule, detail[:DETAIL_CHARS_MAX])

    @classmethod
    def from_short(cls, verdict: PoolVerdict) -> CandidateVerdict:
        """The verdict of an event, without ``reason``."""
        interface, family, pool, accepted, rule, detail = verdict
        return cls(interface, family, pool, accepted, rule, "", detail)


class Selection(NamedTuple):
    """The result of a selection. ``nics``: the candidates before the filters.

    ``demands``, ``verdicts``: by NIC in the user's order, IPv4 before IPv6.
    ``routes``: all routes of the Pod's annotation.
    ``passed_over``: the first ``PASSED_OVER_MAX`` rejected candidates, for the event of the claim.
    """

    source: str
    unnamed: bool
    demands: tuple[Demand, ...]
    verdicts: tuple[CandidateVerdict, ...]
    nics: tuple[NicPools, ...]
    notes: tuple[Note, ...] = ()
    routes: tuple[Route, ...] = ()
    passed_over: tuple[PoolVerdict, ...] = ()
