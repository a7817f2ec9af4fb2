"""The filters of pools: the rules that accept or reject one pool for one NIC, in their order.

See docs/reference/pool-selection.md, "Filters". The first rule that rejects decides; a pool with
malformed data is rejected and affects no other. No text is built for an accepted pool. Whether a
pool is full is not checked here, but by the claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final, NamedTuple, TypeAlias

from core.domain.addresses import ip_address as addresses
from core.domain.addresses.ip_address import AddressSyntaxError, Family
from core.domain.autopools.applications import application_key
from core.domain.autopools.names import APPLICATION_KEYS, OWNER_NAME, affinity
from core.domain.facts import RequestFacts
from core.domain.model import Pool
from core.domain.patterns import labels
from core.domain.selection import multus
from core.domain.selection.explanation import bracketed
from core.domain.selection.request import FAMILY_NAMES, SelectionRequest, SelectionSettings


class FilterDecision(NamedTuple):
    """The decision of a rule; see ``CandidateVerdict`` for the fields."""

    accepted: bool
    rule: str
    reason: str = ""
    detail: str = ""


ACCEPTED: Final = FilterDecision(accepted=True, rule="every rule")
_ACCEPTED_AUTO_POOL: Final = FilterDecision(accepted=True, rule="auto-pool")
_ACCEPTED_MULTUS_NAME: Final = FilterDecision(accepted=True, rule="multus-name")


class FilterInput:
    """One NIC and family of one request, with everything that the rules read.

    ``asked``: the request is for this NIC, not for one that is allocated together with it.
    """

    def __init__(
        self,
        interface: str,
        family: Family,
        request: SelectionRequest,
        facts: RequestFacts,
        settings: SelectionSettings,
        *,
        asked: bool,
    ) -> None:
        self.interface = interface
        self.family = family
        self.request = request
        self.facts = facts
        self.settings = settings
        self.asked = asked

    @cached_property
    def network(self) -> multus.Resolution:
        """The net-attach-def of the NIC; resolved on first use."""
        return multus.resolve(self.interface, self.facts.pod, self.settings)


Rule: TypeAlias = Callable[[Pool, FilterInput], FilterDecision | None]


def judge(pool: Pool, filter_input: FilterInput) -> FilterDecision:
    """The decision of the first rule that makes one; accepted if none does."""
    for rule in RULES:
        decision = rule(pool, filter_input)
        if decision is not None:
            return decision
    return ACCEPTED


def alive(pool: Pool, _: FilterInput) -> FilterDecision | None:
    """Rules a and b."""
    if pool.retiring:
        return _rejected("terminating", f"terminating IPPool {pool.name}")
    if pool.disabled:
        return _rejected("disabled", f"disabled IPPool {pool.name}")
    return None


def right_family(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Rules c and d."""
    if pool.family == filter_input.family:
        return None
    if pool.family not in FAMILY_NAMES:
        return _rejected("no-version", "nil ippool ipVersion", f"IPPool {pool.name}")
    expected, actual = FAMILY_NAMES[filter_input.family], FAMILY_NAMES[pool.family]
    return _rejected(
        "other-version",
        f"expect an {expected} IPPool, but the version of the IPPool {pool.name} is {actual}",
    )


def node_fits(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Rule e. An unknown node has no labels."""
    if pool.node_names:
        if filter_input.facts.pod.node in pool.node_names:
            return None
        detail = (
            f"nodeName {bracketed(pool.node_names)}, the Pod is on '{filter_input.facts.pod.node}'"
        )
        return _rejected("node-name", f"unmatched Node name of IPPool {pool.name}", detail)
    if pool.node_affinity is None:
        return None
    node = filter_input.facts.node
    if labels.matches(pool.node_affinity, node.labels):
        return None
    detail = labels.explain_mismatch(pool.node_affinity, node.labels)
    if not node.known:
        return _rejected("node-affinity", f'Node "{node.name}" not found', detail)
    return _rejected("node-affinity", f"unmatched Node affinity of IPPool {pool.name}", detail)


def namespace_fits(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Rule f. An unknown namespace has no labels."""
    if pool.namespace_names:
        if filter_input.facts.pod.namespace in pool.namespace_names:
            return None
        names = bracketed(pool.namespace_names)
        detail = f"namespaceName {names}, the Pod is in '{filter_input.facts.pod.namespace}'"
        return _rejected(
            "namespace-name", f"unmatched Namespace name of IPPool {pool.name}", detail
        )
    if pool.namespace_affinity is None:
        return None
    namespace = filter_input.facts.namespace
    if labels.matches(pool.namespace_affinity, namespace.labels):
        return None
    return _rejected(
        "namespace-affinity",
        f"unmatched Namespace affinity of IPPool {pool.name}",
        labels.explain_mismatch(pool.namespace_affinity, namespace.labels),
    )


def pod_fits(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Rule g. An automatic pool is selected by its application only; later rules are skipped."""
    if pool.pod_affinity is None:
        return None
    pod = filter_input.facts.pod
    if OWNER_NAME not in pool.labels:
        if labels.matches(pool.pod_affinity, pod.labels):
            return None
        detail = labels.explain_mismatch(pool.pod_affinity, pod.labels)
        return _rejected("pod-affinity", f"unmatched Pod affinity of IPPool {pool.name}", detail)
    expected = [pool.pod_affinity.match_labels.get(key, "") for key in APPLICATION_KEYS]
    actual = list(affinity(application_key(pod)).match_labels.values())
    if expected == actual:
        return _ACCEPTED_AUTO_POOL
    return _rejected(
        "auto-pool",
        # This spelling is what users find in their logs and search for.
        f"unmatched Pod annifity of auto-created IPool {pool.name}",
        f"made for {_application(expected)}, the Pod belongs to {_application(actual)}",
    )


def multus_fits(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Rule h. The net-attach-def of the NIC is only read for pools with ``multusName``."""
    if not pool.multus_names:
        return None
    network, problem = filter_input.network
    if problem:
        return _rejected("multus-network", problem, f"multusName {bracketed(pool.multus_names)}")
    names = bracketed(pool.multus_names)
    if not network:
        return _rejected(
            "multus-network",
            "cluster-network multus isn't set, "
            f"the IPPool {pool.name} specified multusName {names} unmatched",
        )
    settings = filter_input.settings
    if any(multus.names_network(name, network, settings) for name in pool.multus_names):
        return _ACCEPTED_MULTUS_NAME
    return _rejected(
        "multus-name",
        f"the spec.multusName {names} in the IPPool {pool.name} used by the Pod interface "
        f"{filter_input.interface} is not matched, the net-attach-def found is {network}",
    )


def master_fits(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Rule i. Only the NIC being set up has a master that the agent could read."""
    request = filter_input.request
    if not request.match_master_subnet or not filter_input.asked:
        return None
    if request.master_addresses is None:
        return _rejected(
            "master-subnet",
            f"unknown addresses of the master of NIC {filter_input.interface}, "
            f"IPPool {pool.name} cannot be matched with its subnet",
        )
    try:
        subnet = addresses.parse_cidr(pool.subnet)
    except AddressSyntaxError as error:
        return _rejected("malformed", f"malformed subnet of IPPool {pool.name}: {error}")
    if any(_lies_in(text, subnet) for text in request.master_addresses):
        return None
    return _rejected(
        "master-subnet",
        f"unmatched master subnet of IPPool {pool.name}: no address "
        f"{bracketed(request.master_addresses)} of the master of NIC {filter_input.interface} "
        f"is in {pool.subnet}",
    )


RULES: Final[tuple[Rule, ...]] = (
    alive,
    right_family,
    node_fits,
    namespace_fits,
    pod_fits,
    multus_fits,
    master_fits,
)
"""In the order of the specification."""


def _rejected(rule: str, reason: str, detail: str = "") -> FilterDecision:
    return FilterDecision(accepted=False, rule=rule, reason=reason, detail=detail)


def _application(parts: Iterable[str]) -> str:
    group, version, kind, namespace, name = parts
    return f"{group}/{version} {kind} {namespace}/{name}".lstrip("/")


def _lies_in(text: str, subnet: addresses.Cidr) -> bool:
    """Whether an address, prefix length or not, is in the subnet; a malformed one is not."""
    try:
        family, value = addresses.parse_address(text.partition("/")[0])
    except AddressSyntaxError:
        return False
    return family == subnet.family and subnet.first <= value <= subnet.last
