"""Properties of every selection, for any pools, annotations and request."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.addresses.ip_address import Family
from core.domain.model import Pool
from core.domain.patterns.labels import LabelSelector
from core.domain.request_facts import NamespaceFacts, NodeFacts, PodFacts, RequestFacts
from core.domain.selection.pool_annotations import POD_IPPOOL, POD_IPPOOLS
from core.domain.selection.pool_catalog import PoolCatalog
from core.domain.selection.pool_selection import requested_pools, select, sorted_by_specificity
from core.domain.selection.selection_request import (
    CandidateVerdict,
    Selection,
    SelectionRequest,
    SelectionSettings,
)
from core.errors import AllocationError

ETH0_REQUEST = SelectionRequest("eth0")
DEFAULT_SETTINGS = SelectionSettings()
NAMES = [f"pool-{letter}" for letter in "abcdefgh"]
SELECTORS = st.sampled_from([None, LabelSelector(), LabelSelector({"zone": "z9"})])


@st.composite
def pools(draw: st.DrawFn) -> dict[str, Pool]:
    """Pools by name; at most one pool of NAMES is missing."""
    missing_name = draw(st.sampled_from([None, None, None, *NAMES]))
    return {name: draw(pool(name)) for name in NAMES if name != missing_name}


@st.composite
def pool(draw: st.DrawFn, name: str) -> Pool:
    """A pool that accepts the Pod of ``facts_of``; rarely, a pool with one flaw."""
    family: Family = 6 if name > "pool-e" else 4
    fitting = Pool(
        name,
        family,
        "10.0.0.0/16" if family == 4 else "fd00::/64",
        pod_affinity=draw(SELECTORS),
        namespace_affinity=draw(SELECTORS),
        namespace_names=draw(st.sampled_from([(), ("shop",)])),
        node_affinity=draw(SELECTORS),
        node_names=draw(st.sampled_from([(), ("node-1",)])),
        multus_names=draw(st.sampled_from([(), ("red",)])),
        default=draw(st.booleans()),
    )
    flaws: dict[str, Any] = {
        "disabled": True,
        "retiring": True,
        "node_names": ("node-2",),
        "namespace_names": ("bank",),
        "pod_affinity": LabelSelector({"app": "db"}),
        "multus_names": ("blue",),
    }
    flaw = draw(st.sampled_from([*[None] * 20, *flaws]))
    return fitting._replace(**{flaw: flaws[flaw]}) if flaw else fitting


@st.composite
def pod_annotations(draw: st.DrawFn) -> dict[str, str]:
    ipv4 = st.lists(
        st.sampled_from([*NAMES[:6], "pool-[ab]", "pool-*", "x*"]), min_size=1, max_size=4
    )
    ipv6 = st.lists(
        st.sampled_from([*NAMES[4:], "pool-*", "pool-?", "x*"]), max_size=4, unique=True
    )
    items = st.fixed_dictionaries({"ipv4": ipv4}, optional={"ipv6": ipv6})
    kind = draw(st.sampled_from(["nothing", "ippool", "named", "unnamed"]))
    if kind == "nothing":
        return {}
    if kind == "ippool":
        return {POD_IPPOOL: json.dumps(draw(items))}
    entries = draw(st.lists(items, min_size=1, max_size=3))
    if kind == "named":
        named_entries = zip(("eth0", "net1", "net2"), entries, strict=False)
        return {
            POD_IPPOOLS: json.dumps([{"interface": nic} | entry for nic, entry in named_entries])
        }
    return {POD_IPPOOLS: json.dumps(entries)}


@st.composite
def facts(draw: st.DrawFn) -> RequestFacts:
    return facts_of(draw(pod_annotations()))


def facts_of(annotations: dict[str, str]) -> RequestFacts:
    return RequestFacts(
        PodFacts(
            "shop", "web-0", "uid-1", node="node-1", labels={"zone": "z9"}, annotations=annotations
        ),
        NamespaceFacts("shop", labels={"zone": "z9"}, known=True),
        NodeFacts("node-1", labels={"zone": "z9"}, known=True),
    )


def outcome(facts: RequestFacts, pools_by_name: dict[str, Pool]) -> Selection | tuple[object, ...]:
    """The selection, or all data of the error."""
    try:
        return select(
            ETH0_REQUEST,
            facts,
            pools_by_name,
            DEFAULT_SETTINGS._replace(multus_cluster_network="red"),
        )
    except AllocationError as error:
        return type(error), error.message, error.subject, error.remedy, error.verdicts


@given(pools(), facts(), st.randoms(use_true_random=False))
def test_the_order_of_the_pools_does_not_change_the_outcome(
    pools_by_name: dict[str, Pool], facts: RequestFacts, shuffler: random.Random
) -> None:
    shuffled = list(pools_by_name.items())
    shuffler.shuffle(shuffled)

    assert outcome(facts, dict(shuffled)) == outcome(facts, pools_by_name)


@given(pools(), facts(), st.data())
def test_a_pool_that_is_neither_named_nor_default_does_not_change_the_outcome(
    pools_by_name: dict[str, Pool], facts: RequestFacts, data: st.DataObject
) -> None:
    unnamed_pool = data.draw(pool("unnamed"))._replace(default=False)

    assert outcome(facts, {"unnamed": unnamed_pool, **pools_by_name}) == outcome(
        facts, pools_by_name
    )


@given(pools(), facts())
def test_every_candidate_has_a_verdict_and_every_accepted_candidate_is_tried(
    pools_by_name: dict[str, Pool], facts: RequestFacts
) -> None:
    result = outcome(facts, pools_by_name)
    if not isinstance(result, Selection):
        return

    pools_with_verdict = [
        (verdict.interface, verdict.family, verdict.pool) for verdict in result.verdicts
    ]
    candidates = [
        (nic.interface, family, name)
        for nic in result.nics
        for family, names in nic.lists()
        for name in names
    ]
    pools_to_try = [
        (demand.interface, demand.family, name)
        for demand in result.demands
        for name in demand.pools
    ]
    accepted_pools = [
        pools_with_verdict[index]
        for index, verdict in enumerate(result.verdicts)
        if verdict.accepted
    ]
    assert pools_with_verdict == candidates
    assert sorted(pools_to_try) == sorted(accepted_pools)
    assert all(bool(verdict.reason) != verdict.accepted for verdict in result.verdicts)


@given(pools(), facts())
def test_every_requested_family_gets_a_demand_with_pools_of_that_family(
    pools_by_name: dict[str, Pool], facts: RequestFacts
) -> None:
    result = outcome(facts, pools_by_name)
    if not isinstance(result, Selection):
        return

    requested = [(nic.interface, family) for nic in result.nics for family, _ in nic.lists()]
    assert requested == [(demand.interface, demand.family) for demand in result.demands]
    assert all(demand.pools for demand in result.demands)
    assert all(
        pools_by_name[name].family == demand.family
        for demand in result.demands
        for name in demand.pools
    )
    # The interface of an unnamed NIC is an index.
    assert any(demand.interface in {"eth0", "0"} for demand in result.demands)


@given(pools(), facts())
def test_requested_pools_are_the_candidates_of_the_selection(
    pools_by_name: dict[str, Pool], facts: RequestFacts
) -> None:
    result = outcome(facts, pools_by_name)
    if not isinstance(result, Selection):
        return

    listed = requested_pools(ETH0_REQUEST, facts, pools_by_name, DEFAULT_SETTINGS)

    assert (listed.source, listed.unnamed, listed.nics) == (
        result.source,
        result.unnamed,
        result.nics,
    )


@given(pools(), facts())
def test_a_catalog_and_a_plain_mapping_give_the_same_requested_pools(
    pools_by_name: dict[str, Pool], facts: RequestFacts
) -> None:
    catalog = PoolCatalog(pools_by_name)
    try:
        listed = requested_pools(ETH0_REQUEST, facts, catalog, DEFAULT_SETTINGS)
    except AllocationError:
        return

    # The catalog has cached the matches of patterns.
    assert requested_pools(ETH0_REQUEST, facts, catalog, DEFAULT_SETTINGS) == listed
    assert requested_pools(ETH0_REQUEST, facts, pools_by_name, DEFAULT_SETTINGS) == listed


def compare_as_the_specification_does(first_pool: Pool, second_pool: Pool) -> int:
    """See docs/reference/pool-selection.md, "Order of pools"."""
    traits: list[Callable[[Pool], bool]] = [
        lambda pool: pool.pod_affinity is not None,
        lambda pool: len(pool.node_names) > 0,
        lambda pool: pool.node_affinity is not None,
        lambda pool: len(pool.namespace_names) > 0,
        lambda pool: pool.namespace_affinity is not None,
        lambda pool: len(pool.multus_names) > 0,
    ]
    for has in traits:
        if has(first_pool) != has(second_pool):
            return -1 if has(first_pool) else 1
    return 0


@given(pools(), st.randoms(use_true_random=False))
def test_pools_are_sorted_stably_in_the_order_of_the_specification(
    pools_by_name: dict[str, Pool], shuffler: random.Random
) -> None:
    unsorted = list(pools_by_name.values())
    shuffler.shuffle(unsorted)

    expected = sorted(unsorted, key=functools.cmp_to_key(compare_as_the_specification_does))

    assert sorted_by_specificity(unsorted) == tuple(pool.name for pool in expected)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["ipv4", "IPV6", "interface", "cleangateway", "dst", "gw", "x"]), inner
        )
    ),
    max_leaves=10,
)
KEYS = [
    *(f"ipam.spidernet.io/{name}" for name in ("ippools", "ippool", "routes", "subnet")),
    "v1.multus-cni.io/default-network",
    "k8s.v1.cni.cncf.io/networks",
]


@given(pools(), st.dictionaries(st.sampled_from(KEYS), st.text() | JSON_VALUES.map(json.dumps)))
def test_a_selection_raises_only_allocation_errors_for_any_annotations(
    pools_by_name: dict[str, Pool], annotations: dict[str, str]
) -> None:
    result = outcome(facts_of(annotations), pools_by_name)

    assert isinstance(result, Selection) or issubclass(result[0], AllocationError)  # type: ignore[arg-type]


class NamedPoolsOnly(dict[str, Pool]):
    """Pools that fail the test if the selection iterates over the pools."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("the selection iterated over all pools")

    items = keys = values = __iter__  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("annotations", "request_pools"),
    [({POD_IPPOOL: '{"ipv4": ["pool-a"]}'}, ()), ({}, ("pool-a",))],
    ids=["a Pod annotation", "the CNI configuration"],
)
def test_a_selection_by_name_reads_only_the_named_pools(
    annotations: dict[str, str], request_pools: tuple[str, ...]
) -> None:
    pools_by_name = NamedPoolsOnly({name: Pool(name, 4, "10.0.0.0/16") for name in NAMES})
    request = ETH0_REQUEST._replace(default_ipv4_pools=request_pools)

    selection = select(request, facts_of(annotations), pools_by_name, DEFAULT_SETTINGS)

    assert selection.verdicts == (
        CandidateVerdict("eth0", 4, pool="pool-a", accepted=True, rule="every rule", reason=""),
    )
