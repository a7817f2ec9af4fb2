"""The values of pool selection: the request, the requested pools, the result.

Lists of pool names are in the order in which the pools are tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import V4, V6, Family
from core.domain.events import PoolVerdict
from core.domain.model import Route

CLUSTER_INTERFACE: Final = "eth0"
"""The NIC of the cluster network; index "0" in unnamed mode."""

NICS_MAX: Final = 24
"""Maximum number of NICs of one Pod. One transaction must be able to release all addresses."""

ADDRESSES_MAX: Final = 24
"""Maximum number of addresses that are claimed together.

A transaction has at most 128 guards, and an address may need five: for the claim, the cool-down,
the quarantine, the pool, and an older claim that is replaced.
"""

PASSED_OVER_MAX: Final = 16
"""Maximum number of rejected candidates in the event of a claim."""

DETAIL_CHARS_MAX: Final = 200
"""Maximum characters of the ``detail`` of a verdict in an event."""

FAMILY_NAMES: Final[dict[Family, str]] = {V4: "IPv4", V6: "IPv6"}

SOURCE_POD_SUBNETS: Final = "pod-subnets"
SOURCE_POD_IPPOOLS: Final = "pod-ippools"
SOURCE_POD_IPPOOL: Final = "pod-ippool"
SOURCE_NAMESPACE: Final = "namespace"
SOURCE_CNI_CONF: Final = "cni-conf"
SOURCE_DEFAULT_POOLS: Final = "default-pools"


class SelectionRequest(NamedTuple):
    """The part of a CNI ADD that selection uses.

    ``clean_gateway``: the NIC gets no default route. ``match_master_subnet``: the pool must be in a
    subnet of the NIC's SR-IOV master. ``master_addresses``, for ``match_master_subnet``: addresses
    of the master, with or without prefix length; None if unreadable.
    """

    interface: str
    default_ipv4_pools: tuple[str, ...] = ()
    default_ipv6_pools: tuple[str, ...] = ()
    clean_gateway: bool = False
    match_master_subnet: bool = False
    master_addresses: tuple[str, ...] | None = None


class SelectionSettings(NamedTuple):
    """The cluster's settings that affect selection.

    ``multus_namespace``: the namespace of a default network that is named without a namespace.

    See docs/reference/configuration.md, "conf.yml" and "Agent".
    """

    ipv4_enabled: bool = True
    ipv6_enabled: bool = True
    subnets_enabled: bool = False
    auto_pools_enabled: bool = False
    multus_cluster_network: str = ""
    agent_namespace: str = "kube-system"
    multus_namespace: str = "kube-system"

    def enabled(self, family: Family) -> bool:
        """Whether the cluster uses this family."""
        return self.ipv4_enabled if family == V4 else self.ipv6_enabled


class NicPools(NamedTuple):
    """The pools requested for one NIC, before the filters. (): no pool of this family."""

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
    """A remark about the selection of one NIC, such as a pattern that matches no pool."""

    interface: str
    text: str


class Candidates(NamedTuple):
    """The pools that one source names, for all NICs that are allocated together.

    ``source``: one of ``SOURCE_*``. ``unnamed``: the annotation names no interfaces, so ``nics``
    has "0", "1", ... instead (docs/reference/annotations.md, "Unnamed interfaces").
    """

    source: str
    nics: tuple[NicPools, ...]
    unnamed: bool = False
    notes: tuple[Note, ...] = ()

    def find(self, interface: str) -> NicPools | None:
        """The NIC of that name (index in unnamed mode), or None."""
        return next((nic for nic in self.nics if nic.interface == interface), None)

    def requested_nic(self, request: SelectionRequest) -> NicPools | None:
        """The NIC of this request, or None. Unnamed mode finds only the ``CLUSTER_INTERFACE``."""
        if not self.unnamed:
            return self.find(request.interface)
        return self.nics[0] if request.interface == CLUSTER_INTERFACE else None


class Demand(NamedTuple):
    """One requested address, and one or more pools in the order in which they are tried."""

    interface: str
    family: Family
    pools: tuple[str, ...]
    clean_gateway: bool


class CandidateVerdict(NamedTuple):
    """Whether one candidate pool was accepted.

    ``rule``: the stable name of the rule that decided. ``reason``: the text in the error of the
    ADD, "" for an accepted pool. ``detail``: the value that did not match, for ``orbctl explain``.
    """

    interface: str
    family: Family
    pool: str
    accepted: bool
    rule: str
    reason: str
    detail: str = ""

    def short(self) -> PoolVerdict:
        """The verdict as events store it, without ``reason``."""
        interface, family, pool, accepted, rule, _, detail = self
        return PoolVerdict(interface, family, pool, accepted, rule, detail[:DETAIL_CHARS_MAX])

    @classmethod
    def from_short(cls, verdict: PoolVerdict) -> CandidateVerdict:
        """The verdict of an event. ``reason`` is ""."""
        interface, family, pool, accepted, rule, detail = verdict
        return cls(interface, family, pool, accepted, rule, "", detail)


class Selection(NamedTuple):
    """The result of a selection. ``nics``: the candidates before the filters.

    ``demands`` and ``verdicts``: by NIC in the user's order, IPv4 before IPv6. ``routes``: all
    routes of the Pod's annotation. ``passed_over``: the first ``PASSED_OVER_MAX`` rejected
    candidates, for the event of the claim.
    """

    source: str
    unnamed: bool
    demands: tuple[Demand, ...]
    verdicts: tuple[CandidateVerdict, ...]
    nics: tuple[NicPools, ...]
    notes: tuple[Note, ...] = ()
    routes: tuple[Route, ...] = ()
    passed_over: tuple[PoolVerdict, ...] = ()
