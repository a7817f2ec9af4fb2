"""The filters of pools: rules that accept or reject one pool for one NIC.

See docs/reference/pool-selection.md, "Filters". The first rule that returns a decision decides. The
filters ignore whether a pool is full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final, NamedTuple, TypeAlias

from core.domain.addresses import ip_address as addresses
from core.domain.addresses.ip_address import AddressSyntaxError, Family
from core.domain.autopools.applications import application_key
from core.domain.autopools.pool_names import APPLICATION_KEYS, OWNER_NAME, affinity
from core.domain.model import Pool
from core.domain.patterns import labels
from core.domain.request_facts import RequestFacts
from core.domain.selection import multus
from core.domain.selection.error_texts import bracketed
from core.domain.selection.selection_request import (
    FAMILY_NAMES,
    SelectionRequest,
    SelectionSettings,
)


class FilterDecision(NamedTuple):
    """The decision of a rule.

    ``rule``: the name of the rule. Events store the name, so it must not change.
    ``reason``: the text in the error of the ADD; most texts are Spiderpool's.
    ``detail``: the value that did not match.
    """

    accepted: bool
    rule: str
    reason: str = ""
    detail: str = ""


ACCEPTED: Final = FilterDecision(accepted=True, rule="every rule")
_ACCEPTED_AUTO_POOL: Final = FilterDecision(accepted=True, rule="auto-pool")
_ACCEPTED_MULTUS_NAME: Final = FilterDecision(accepted=True, rule="multus-name")


class FilterInput:
    """The data that the rules read, for one NIC and family.

    ``is_requested``: the ADD is for this NIC. An ADD may claim addresses for several NICs.
    """

    def __init__(
        self,
        interface: str,
        family: Family,
        request: SelectionRequest,
        facts: RequestFacts,
        settings: SelectionSettings,
        *,
        is_requested: bool,
    ) -> None:
        self.interface = interface
        self.family = family
        self.request = request
        self.facts = facts
        self.settings = settings
        self.is_requested = is_requested

    @cached_property
    def network(self) -> multus.NetworkResolution:
        """The net-attach-def of the NIC."""
        return multus.resolve(self.interface, self.facts.pod, self.settings)


Rule: TypeAlias = Callable[[Pool, FilterInput], FilterDecision | None]


def apply_rules(pool: Pool, filter_input: FilterInput) -> FilterDecision:
    """The first decision that a rule returns. If no rule returns one, the pool is accepted."""
    for rule in RULES:
        decision = rule(pool, filter_input)
        if decision is not None:
            return decision
    return ACCEPTED


def check_state(pool: Pool, _: FilterInput) -> FilterDecision | None:
    """Reject a retiring or disabled pool (rules a and b)."""
    if pool.retiring:
        return _rejected("terminating", f"terminating IPPool {pool.name}")
    if pool.disabled:
        return _rejected("disabled", f"disabled IPPool {pool.name}")
    return None


def check_family(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Reject a pool of another or an unknown family (rules c and d)."""
    if pool.family == filter_input.family:
        return None
    if pool.family not in FAMILY_NAMES:
        return _rejected("no-version", "nil ippool ipVersion", f"IPPool {pool.name}")
    expected, actual = FAMILY_NAMES[filter_input.family], FAMILY_NAMES[pool.family]
    return _rejected(
        "other-version",
        f"expect an {expected} IPPool, but the version of the IPPool {pool.name} is {actual}",
    )


def check_node(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Reject a pool for other nodes (rule e). An unknown node has no labels."""
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


def check_namespace(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Reject a pool for other namespaces (rule f). An unknown namespace has no labels."""
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


def check_pod(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Reject a pool for other Pods (rule g).

    An automatic pool is accepted only for Pods of its application.
    """
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
        # Spiderpool's spelling: users search for this text.
        f"unmatched Pod annifity of auto-created IPool {pool.name}",
        f"made for {_application_text(expected)}, the Pod belongs to {_application_text(actual)}",
    )


def check_multus_name(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Accept a pool for the NIC's net-attach-def; reject one for other networks (rule h)."""
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


def check_master_subnet(pool: Pool, filter_input: FilterInput) -> FilterDecision | None:
    """Reject a pool whose subnet contains no address of the NIC's master (rule i).

    Only the requested NIC is checked, because the agent reads only the master of this NIC.
    """
    request = filter_input.request
    if not request.match_master_subnet or not filter_input.is_requested:
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
    if any(_is_in(text, subnet) for text in request.master_addresses):
        return None
    return _rejected(
        "master-subnet",
        f"unmatched master subnet of IPPool {pool.name}: no address "
        f"{bracketed(request.master_addresses)} of the master of NIC {filter_input.interface} "
        f"is in {pool.subnet}",
    )


RULES: Final[tuple[Rule, ...]] = (
    check_state,
    check_family,
    check_node,
    check_namespace,
    check_pod,
    check_multus_name,
    check_master_subnet,
)


def _rejected(rule: str, reason: str, detail: str = "") -> FilterDecision:
    return FilterDecision(accepted=False, rule=rule, reason=reason, detail=detail)


def _application_text(parts: Iterable[str]) -> str:
    group, version, kind, namespace, name = parts
    return f"{group}/{version} {kind} {namespace}/{name}".lstrip("/")


def _is_in(text: str, subnet: addresses.Cidr) -> bool:
    try:
        family, value = addresses.parse_address(text.partition("/")[0])
    except AddressSyntaxError:
        return False
    return family == subnet.family and subnet.first <= value <= subnet.last
