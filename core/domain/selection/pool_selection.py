"""Pool selection: the pools that can serve a request, with the reason for each decision.

See docs/reference/pool-selection.md. The steps: collect names (``pool_sources``), expand wildcards
(``wildcards``), look up the pools, filter them (``pool_filters``), sort them. No step checks
whether a pool is full.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from core.domain.addresses.ip_address import Family
from core.domain.addresses.routes import requested_routes
from core.domain.events import PoolVerdict
from core.domain.model import Pool, Route
from core.domain.request_facts import RequestFacts
from core.domain.selection import error_texts, pool_filters, pool_sources, wildcards
from core.domain.selection.pool_catalog import PoolCatalog
from core.domain.selection.pool_sources import Context
from core.domain.selection.selection_request import (
    PASSED_OVER_MAX,
    Candidates,
    CandidateVerdict,
    Demand,
    NicPools,
    Selection,
    SelectionRequest,
    SelectionSettings,
)
from core.errors import AllocationError


def select(
    request: SelectionRequest,
    facts: RequestFacts,
    pools: Mapping[str, Pool],
    settings: SelectionSettings,
    kept_families: Container[tuple[str, Family]] = (),
) -> Selection:
    """Select the pools to try for every NIC that this request allocates.

    ``pools``: pass a ``PoolCatalog`` if several selections use the same pools; it is faster.
    ``kept_families``: (interface, family) pairs that need no pool, because the Pod keeps the
    addresses.

    Raises WrongInput, NoPoolAvailable, or AllocationError for a missing pool, a malformed wildcard
    or a malformed annotation of the namespace. Messages have the prefix
    ``error_texts.STANDARD_MODE``.
    """
    context = Context(request, facts, PoolCatalog.of(pools), settings)
    source = ""
    try:
        routes = requested_routes(context.facts.pod)
        requested = _collect(context)
        source = requested.source
        return _filter(context, requested, routes, kept_families)
    except AllocationError as error:
        raise error_texts.with_standard_mode_prefix(error, source) from error


def requested_pools(
    request: SelectionRequest,
    facts: RequestFacts,
    pools: Mapping[str, Pool],
    settings: SelectionSettings,
) -> Candidates:
    """The requested pools before the filters, to find out whether the request has changed.

    See docs/reference/fixed-address-rules.md, "Changed pools". Pools can be missing, and lists can
    be empty. Raises the errors of ``select``, without the prefix.
    """
    return _collect(Context(request, facts, PoolCatalog.of(pools), settings))


def _collect(context: Context) -> Candidates:
    requested = wildcards.resolve(pool_sources.collect(context), context.catalog, context.settings)
    pod = context.facts.pod
    if not pod.claims:
        return requested
    # One request allocates either the NICs of its IPAMClaim, or all NICs without an IPAMClaim.
    nics = tuple(
        nic for nic in requested.nics if pod.claims.get(nic.interface, "") == pod.ipam_claim
    )
    return requested._replace(nics=nics)


def _filter(
    context: Context,
    requested: Candidates,
    routes: tuple[Route, ...],
    kept_families: Container[tuple[str, Family]],
) -> Selection:
    _check_requested_nic(requested, context)
    pools_to_check = [
        (nic, family, _existing_pools(nic.interface, family, names, context))
        for nic in requested.nics
        for family, names in nic.lists()
        if (nic.interface, family) not in kept_families
    ]
    demands: list[Demand] = []
    verdicts: list[CandidateVerdict] = []
    first_failure: list[CandidateVerdict] = []
    requested_nic = requested.requested_nic(context.request)
    for nic, family, pools in pools_to_check:
        pool_verdicts, accepted = _apply_rules(
            nic, family, pools, context, is_requested=nic is requested_nic
        )
        verdicts += pool_verdicts
        if accepted:
            names = sorted_by_specificity(accepted)
            demands.append(Demand(nic.interface, family, names, nic.clean_gateway))
        else:
            first_failure = first_failure or pool_verdicts
    if first_failure:
        raise error_texts.all_filtered_out(context.facts.pod, first_failure, tuple(verdicts))
    return Selection(
        requested.source,
        requested.unnamed,
        tuple(demands),
        tuple(verdicts),
        requested.nics,
        requested.notes,
        routes,
        first_rejections(verdicts),
    )


def _check_requested_nic(requested: Candidates, context: Context) -> None:
    nic = requested.requested_nic(context.request)
    nics = requested.nics if nic is None else (nic,)
    if not any(pools.ipv4 or pools.ipv6 for pools in nics):
        names = {pools.interface for pools in nics}
        notes = tuple(note for note in requested.notes if note.interface in names)
        interface = context.request.interface
        relevant = requested._replace(notes=notes)
        raise error_texts.no_candidate(context.facts.pod, interface, relevant)


def _existing_pools(
    interface: str, family: Family, names: tuple[str, ...], context: Context
) -> list[Pool]:
    """The pools of these names. Raises AllocationError for a missing or repeated pool."""
    if len(set(names)) < len(names):
        repeated = next(name for index, name in enumerate(names) if name in names[:index])
        raise error_texts.duplicate_pool(context.facts.pod, interface, family, repeated)
    pools: list[Pool] = []
    for name in names:
        pool = context.catalog.get(name)
        if pool is None:
            why = context.catalog.unreadable.get(name, "")
            raise error_texts.missing_pool(interface, family, name, why)
        pools.append(pool)
    return pools


def _apply_rules(
    nic: NicPools, family: Family, pools: list[Pool], context: Context, *, is_requested: bool
) -> tuple[list[CandidateVerdict], list[Pool]]:
    """The verdict on each pool, and the accepted pools."""
    request, facts, _, settings = context
    filter_input = pool_filters.FilterInput(
        nic.interface, family, request, facts, settings, is_requested=is_requested
    )
    verdicts: list[CandidateVerdict] = []
    accepted: list[Pool] = []
    for pool in pools:
        decision = pool_filters.apply_rules(pool, filter_input)
        verdicts.append(CandidateVerdict(nic.interface, family, pool.name, *decision))
        if decision.accepted:
            accepted.append(pool)
    return verdicts, accepted


def first_rejections(verdicts: Iterable[CandidateVerdict]) -> tuple[PoolVerdict, ...]:
    """The first ``PASSED_OVER_MAX`` rejections."""
    rejected = [verdict for verdict in verdicts if not verdict.accepted]
    return tuple(verdict.short() for verdict in rejected[:PASSED_OVER_MAX])


def specificity(pool: Pool) -> int:
    """One bit for each selecting field that the pool sets; podAffinity is the highest bit."""
    return (
        (pool.pod_affinity is not None) << 5
        | bool(pool.node_names) << 4
        | (pool.node_affinity is not None) << 3
        | bool(pool.namespace_names) << 2
        | (pool.namespace_affinity is not None) << 1
        | bool(pool.multus_names)
    )


def sorted_by_specificity(pools: list[Pool]) -> tuple[str, ...]:
    """The names of the pools, the most specific first.

    See docs/reference/pool-selection.md, "Order of pools". Equally specific pools keep their order.
    """
    if len(pools) > 1:
        pools = sorted(pools, key=specificity, reverse=True)  # sorted() is stable even with reverse
    return tuple(pool.name for pool in pools)
