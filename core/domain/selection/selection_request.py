"""The values of pool selection: the request, the requested pools, the result.

Plain immutable values. Lists of pool names are in the order in which the pools are tried.
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
"""NICs of one Pod. A transaction must be able to release the addresses of all of them."""

ADDRESSES_MAX: Final = 24
"""Addresses that are claimed together.

Each of them may need five of the 128 guards of a transaction: it is not claimed, not in cool-down
and not in quarantine, its pool has not changed, nor has an older claim that it replaces.
"""

PASSED_OVER_MAX: Final = 16
"""Rejected candidates in the event of a claim; more would make the event of every claim larger."""

DETAIL_CHARS_MAX: Final = 200
"""Characters of the ``detail`` of a verdict in an event."""

FAMILY_NAMES: Final[dict[Family, str]] = {V4: "IPv4", V6: "IPv6"}

SOURCE_POD_SUBNETS: Final = "pod-subnets"
SOURCE_POD_IPPOOLS: Final = "pod-ippools"
SOURCE_POD_IPPOOL: Final = "pod-ippool"
SOURCE_NAMESPACE: Final = "namespace"
SOURCE_CNI_CONF: Final = "cni-conf"
SOURCE_DEFAULT_POOLS: Final = "default-pools"


class SelectionRequest(NamedTuple):
    """The part of a CNI ADD that selection uses.

    ``clean_gateway``: the NIC gets no default route. ``match_master_subnet``: its pool must be in a
    subnet of its master. ``master_addresses``: addresses of the SR-IOV master as the agent read
    them, with or without prefix length; None if they could not be read. Only used with
    ``match_master_subnet``.
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
    """The pools requested for one NIC, before the filters; an empty family is not requested."""

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
    """The pools that one level names, for all NICs that are allocated together.

    ``source``: the level, one of ``SOURCE_*``. ``unnamed``: the annotation names no interfaces, so
    those of the NICs are "0", "1", ... (docs/reference/annotations.md, "Unnamed interfaces").
    """

    source: str
    nics: tuple[NicPools, ...]
    unnamed: bool = False
    notes: tuple[Note, ...] = ()

    def find(self, interface: str) -> NicPools | None:
        """The NIC of that name (index in unnamed mode), or None."""
        return next((nic for nic in self.nics if nic.interface == interface), None)

    def requested_nic(self, request: SelectionRequest) -> NicPools | None:
        """The NIC of this request; None if the unnamed mode does not show which one it is."""
        if not self.unnamed:
            return self.find(request.interface)
        return self.nics[0] if request.interface == CLUSTER_INTERFACE else None


class Demand(NamedTuple):
    """One requested address, and the pools to try in this order, at least one."""

    interface: str
    family: Family
    pools: tuple[str, ...]
    clean_gateway: bool


class CandidateVerdict(NamedTuple):
    """Whether one candidate pool was accepted.

    ``rule``: the name of the rule that decided; it never changes. ``reason``: the text in the error
    of the ADD, "" for an accepted pool. ``detail``: the value that did not match, for ``orbctl
    explain``.
    """

    interface: str
    family: Family
    pool: str
    accepted: bool
    rule: str
    reason: str
    detail: str = ""

    def short(self) -> PoolVerdict:
        """The verdict as events store it: without ``reason``, which follows from rule and pool."""
        interface, family, pool, accepted, rule, _, detail = self
        return PoolVerdict(interface, family, pool, accepted, rule, detail[:DETAIL_CHARS_MAX])

    @classmethod
    def from_short(cls, verdict: PoolVerdict) -> CandidateVerdict:
        """Build from the verdict of an event; ``reason`` is ""."""
        interface, family, pool, accepted, rule, detail = verdict
        return cls(interface, family, pool, accepted, rule, "", detail)


class Selection(NamedTuple):
    """The result of a selection. ``nics``: the candidates before the filters.

    ``demands``: by NIC in the user's order, IPv4 before IPv6. ``verdicts``: in the same order.
    ``routes``: those of the Pod's annotation, not yet distributed to the NICs. ``passed_over``: the
    first ``PASSED_OVER_MAX`` rejected candidates, for the event of the claim.
    """

    source: str
    unnamed: bool
    demands: tuple[Demand, ...]
    verdicts: tuple[CandidateVerdict, ...]
    nics: tuple[NicPools, ...]
    notes: tuple[Note, ...] = ()
    routes: tuple[Route, ...] = ()
    passed_over: tuple[PoolVerdict, ...] = ()
