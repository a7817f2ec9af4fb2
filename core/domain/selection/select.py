"""Pool selection: the pools that can serve a request, with the reason for each decision.

See docs/reference/pool-selection.md. The result depends on the request and on the pools that it
names; other pools are only read for a wildcard or the default level. Every demand of the result has
at least one pool, and the requesting NIC has a demand unless its addresses are settled. Whether a
pool has a free address is not checked here, but by the claim.

    collect -> family switch, wildcards -> precheck -> filter -> order
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from core.domain.addresses.ip_address import Family
from core.domain.addresses.routes import requested_routes
from core.domain.events import PoolVerdict
from core.domain.facts import RequestFacts
from core.domain.model import Pool, Route
from core.domain.selection import explanation, filters, precedence, wildcards
from core.domain.selection.catalog import PoolCatalog
from core.domain.selection.precedence import Context
from core.domain.selection.request import (
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
    settled: Container[tuple[str, Family]] = (),
) -> Selection:
    """The pools to try for every NIC that this request allocates.

    ``settled``: (interface, family) pairs that need no pool, because the Pod keeps what it has.
    Pass a ``PoolCatalog`` wherever more than one selection is made of the same pools.
    Raises WrongInput, NoPoolAvailable, or AllocationError without a class of its own (a missing
    pool, a malformed wildcard or namespace annotation). Messages have the prefix of standard mode;
    the error's ``verdicts`` are those reached so far.
    """
    context = Context(request, facts, PoolCatalog.of(pools), settings)
    source = ""
    try:
        routes = requested_routes(context.facts.pod)
        named = _candidates(context)
        source = named.source
        return _judged(context, named, routes, settled)
    except AllocationError as error:
        raise explanation.in_standard_mode(error, source) from error


def candidates(
    request: SelectionRequest,
    facts: RequestFacts,
    pools: Mapping[str, Pool],
    settings: SelectionSettings,
) -> Candidates:
    """The pools that are named, before any is judged: the "pools changed" check.

    See docs/reference/fixed-address-rules.md, "Changed pools".

    Families that are switched off are gone and wildcards are replaced; a name need not exist and a
    list may be empty. Raises as ``select`` does, without the prefix.
    """
    return _candidates(Context(request, facts, PoolCatalog.of(pools), settings))


def _candidates(context: Context) -> Candidates:
    named = wildcards.resolve(precedence.collect(context), context.catalog, context.settings)
    pod = context.facts.pod
    if not pod.claims:
        return named
    # The NICs of one claim, or those without any, are allocated together: they share an endpoint.
    nics = tuple(nic for nic in named.nics if pod.claims.get(nic.interface, "") == pod.ipam_claim)
    return named._replace(nics=nics)


def _judged(
    context: Context,
    candidate_pools: Candidates,
    routes: tuple[Route, ...],
    settled: Container[tuple[str, Family]],
) -> Selection:
    _check_asked(candidate_pools, context)
    named = [
        (nic, family, _existing(nic.interface, family, names, context))
        for nic in candidate_pools.nics
        for family, names in nic.lists()
        if (nic.interface, family) not in settled
    ]
    demands: list[Demand] = []
    verdicts: list[CandidateVerdict] = []
    lost: list[CandidateVerdict] = []
    asked = candidate_pools.asked(context.request)
    for nic, family, pools in named:
        judged, survivors = _judge(nic, family, pools, context, asked=nic is asked)
        verdicts += judged
        if survivors:
            names = in_order_of_trial(survivors)
            demands.append(Demand(nic.interface, family, names, nic.clean_gateway))
        else:
            lost = lost or judged
    if lost:
        raise explanation.all_filtered_out(context.facts.pod, lost, tuple(verdicts))
    return Selection(
        candidate_pools.source,
        candidate_pools.unnamed,
        tuple(demands),
        tuple(verdicts),
        candidate_pools.nics,
        candidate_pools.notes,
        routes,
        rejected_in_short(verdicts),
    )


def _check_asked(named: Candidates, context: Context) -> None:
    """The NIC that is being set up must be among those that get something."""
    asked = named.asked(context.request)
    relevant = named.nics if asked is None else (asked,)
    if not any(nic.ipv4 or nic.ipv6 for nic in relevant):
        names = {nic.interface for nic in relevant}
        notes = tuple(note for note in named.notes if note.interface in names)
        interface = context.request.interface
        raise explanation.no_candidate(context.facts.pod, interface, named._replace(notes=notes))


def _existing(
    interface: str, family: Family, names: tuple[str, ...], context: Context
) -> list[Pool]:
    """The named pools; each must exist and be named once."""
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise explanation.duplicate_pool(context.facts.pod, interface, family, twice)
    pools: list[Pool] = []
    for name in names:
        pool = context.catalog.get(name)
        if pool is None:
            why = context.catalog.unreadable.get(name, "")
            raise explanation.missing_pool(interface, family, name, why)
        pools.append(pool)
    return pools


def _judge(
    nic: NicPools, family: Family, pools: list[Pool], context: Context, *, asked: bool
) -> tuple[list[CandidateVerdict], list[Pool]]:
    """The verdict on each pool, and the pools that were accepted."""
    request, facts, _, settings = context
    filter_input = filters.FilterInput(nic.interface, family, request, facts, settings, asked=asked)
    verdicts: list[CandidateVerdict] = []
    survivors: list[Pool] = []
    for pool in pools:
        decision = filters.judge(pool, filter_input)
        verdicts.append(CandidateVerdict(nic.interface, family, pool.name, *decision))
        if decision.accepted:
            survivors.append(pool)
    return verdicts, survivors


def rejected_in_short(verdicts: Iterable[CandidateVerdict]) -> tuple[PoolVerdict, ...]:
    """The first ``PASSED_OVER_MAX`` rejections, as events have them."""
    rejected = [verdict for verdict in verdicts if not verdict.accepted]
    return tuple(verdict.in_short() for verdict in rejected[:PASSED_OVER_MAX])


def specificity(pool: Pool) -> int:
    """Six bits, the most significant field first, so that numbers compare as the fields do."""
    return (
        (pool.pod_affinity is not None) << 5
        | bool(pool.node_names) << 4
        | (pool.node_affinity is not None) << 3
        | bool(pool.namespace_names) << 2
        | (pool.namespace_affinity is not None) << 1
        | bool(pool.multus_names)
    )


def in_order_of_trial(pools: list[Pool]) -> tuple[str, ...]:
    """The names of accepted pools, more specific pools first, else in the user's order.

    See docs/reference/pool-selection.md, "Order of pools". Six fields are compared one after the
    other, and the first difference decides. A field counts if it is set, also if a filter ignored
    it (nodeAffinity beside nodeName) or it matches everything.
    """
    if len(pools) > 1:
        pools = sorted(pools, key=specificity, reverse=True)  # reverse keeps the order of equals
    return tuple(pool.name for pool in pools)
