"""A memoized selection equals a computed selection; the memo has a bounded size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.model import Owner, Pool
from core.domain.patterns.labels import LabelSelector
from core.domain.request_facts import RequestFacts
from core.domain.selection import selection_cache
from core.domain.selection.pool_annotations import POD_IPPOOL, POD_SUBNET
from core.domain.selection.pool_catalog import PoolCatalog
from core.domain.selection.pool_selection import select
from core.domain.selection.selection_cache import SELECTIONS_MAX, SelectionCache
from core.domain.selection.selection_request import Selection, SelectionRequest
from core.errors import AllocationError
from tests.core.domain.selection.test_select_properties import (
    DEFAULT_SETTINGS,
    ETH0_REQUEST,
    facts,
    facts_of,
    pools,
)

Outcome = Selection | tuple[object, ...]
Z9 = LabelSelector({"zone": "z9"})


def data_of(error: AllocationError) -> Outcome:
    return type(error), error.message, error.subject, error.verdicts


def select_afresh(
    request: SelectionRequest, pod_facts: RequestFacts, catalog: PoolCatalog
) -> Outcome:
    try:
        return select(request, pod_facts, catalog, DEFAULT_SETTINGS)
    except AllocationError as error:
        return data_of(error)


def select_memoized(
    memo: SelectionCache,
    request: SelectionRequest,
    pod_facts: RequestFacts,
    catalog: PoolCatalog,
) -> Outcome:
    try:
        return memo.select(request, pod_facts, catalog)
    except AllocationError as error:
        return data_of(error)


@given(pools(), pools(), st.lists(facts(), min_size=1, max_size=4))
def test_a_memoized_selection_equals_the_computed_one(
    first: dict[str, Pool], second: dict[str, Pool], pods: list[RequestFacts]
) -> None:
    memo = SelectionCache(DEFAULT_SETTINGS)
    for catalog in (PoolCatalog(first), PoolCatalog(second), PoolCatalog(first)):
        for number, pod_facts in enumerate(pods * 2):
            renamed_facts = pod_facts._replace(
                pod=pod_facts.pod._replace(name=f"web-{number}", uid=f"uid-{number}")
            )

            assert select_memoized(memo, ETH0_REQUEST, renamed_facts, catalog) == select_afresh(
                ETH0_REQUEST, renamed_facts, catalog
            )


BASE = facts_of({})
CHANGED_FACTS = {
    "labels of the Pod": BASE._replace(pod=BASE.pod._replace(labels={"zone": "z1"})),
    "annotations of the Pod": facts_of({POD_IPPOOL: '{"ipv4":["free"]}'}),
    "namespace": BASE._replace(
        pod=BASE.pod._replace(namespace="bank"),
        namespace=BASE.namespace._replace(name="bank"),
    ),
    "labels of the namespace": BASE._replace(
        namespace=BASE.namespace._replace(labels={"zone": "z1"})
    ),
    "annotations of the namespace": BASE._replace(
        namespace=BASE.namespace._replace(
            annotations={"ipam.spidernet.io/default-ipv4-ippool": '["free"]'}
        )
    ),
    "node": BASE._replace(
        pod=BASE.pod._replace(node="node-2"), node=BASE.node._replace(name="node-2")
    ),
    "labels of the node": BASE._replace(node=BASE.node._replace(labels={"zone": "z1"})),
}
CATALOG = PoolCatalog(
    {
        "strict": Pool(
            "strict", 4, "10.0.0.0/16", pod_affinity=Z9, namespace_affinity=Z9, node_affinity=Z9,
            default=True,
        ),
        "named": Pool(
            "named", 4, "10.1.0.0/16", namespace_names=("shop",), node_names=("node-1",),
            default=True,
        ),
        "free": Pool("free", 4, "10.2.0.0/16", default=True),
    }
)  # fmt: skip


@pytest.mark.parametrize("changed", CHANGED_FACTS)
def test_the_cache_key_has_every_field_that_a_rule_reads(changed: str) -> None:
    memo = SelectionCache(DEFAULT_SETTINGS)
    before = select_memoized(memo, ETH0_REQUEST, BASE, CATALOG)

    after = select_memoized(memo, ETH0_REQUEST, CHANGED_FACTS[changed], CATALOG)

    assert after == select_afresh(ETH0_REQUEST, CHANGED_FACTS[changed], CATALOG)
    assert after != before


def test_requests_for_another_interface_or_pool_have_their_own_selection() -> None:
    memo = SelectionCache(DEFAULT_SETTINGS)
    for request in (
        ETH0_REQUEST,
        SelectionRequest("net1"),
        SelectionRequest("eth0", default_ipv4_pools=("free",)),
    ):
        assert select_memoized(memo, request, BASE, CATALOG) == select_afresh(
            request, BASE, CATALOG
        )


def test_pods_of_a_template_share_a_selection_unless_a_subnet_is_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed_facts: list[RequestFacts] = []

    def note_and_select(*arguments: object) -> Selection:
        computed_facts.append(arguments[1])  # type: ignore[arg-type]
        return select(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(selection_cache, "select", note_and_select)
    memo = SelectionCache(DEFAULT_SETTINGS)
    owner = Owner("Deployment", "web")
    for number in range(3):
        pod = BASE.pod._replace(name=f"web-{number}", uid=f"uid-{number}", owner=owner)
        memo.select(ETH0_REQUEST, BASE._replace(pod=pod), CATALOG)
    assert len(computed_facts) == 1

    subnet_facts = facts_of({POD_SUBNET: '{"ipv4":["lan"]}'})
    for _ in range(2):
        memo.select(ETH0_REQUEST, subnet_facts, CATALOG)
    assert len(computed_facts) == 3, "a selection with a subnet annotation was cached"


def test_the_cache_is_bounded() -> None:
    memo = SelectionCache(DEFAULT_SETTINGS)
    for number in range(2 * SELECTIONS_MAX):
        memo.select(SelectionRequest(f"net{number}"), BASE, CATALOG)

        assert len(memo._selections) <= SELECTIONS_MAX
