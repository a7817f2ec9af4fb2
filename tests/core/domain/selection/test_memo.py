"""A memoized selection equals a computed one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.facts import RequestFacts
from core.domain.model import Owner, Pool
from core.domain.patterns.labels import LabelSelector
from core.domain.selection import memo
from core.domain.selection.annotations import POD_IPPOOL, POD_SUBNET
from core.domain.selection.catalog import PoolCatalog
from core.domain.selection.memo import SELECTIONS_MAX, SelectionMemo
from core.domain.selection.request import Selection, SelectionRequest
from core.domain.selection.select import select
from core.errors import AllocationError
from tests.core.domain.selection.test_select_properties import ETH0, PLAIN, facts, facts_of, pools

Outcome = Selection | tuple[object, ...]
Z9 = LabelSelector({"zone": "z9"})


def error_of(error: AllocationError) -> Outcome:
    return type(error), error.message, error.subject, error.verdicts


def by_rules(request: SelectionRequest, one: RequestFacts, catalog: PoolCatalog) -> Outcome:
    try:
        return select(request, one, catalog, PLAIN)
    except AllocationError as error:
        return error_of(error)


def by_memory(
    memory: SelectionMemo, request: SelectionRequest, one: RequestFacts, catalog: PoolCatalog
) -> Outcome:
    try:
        return memory.select(request, one, catalog)
    except AllocationError as error:
        return error_of(error)


@given(pools(), pools(), st.lists(facts(), min_size=1, max_size=4))
def test_a_cached_result_equals_that_of_the_rules(
    first: dict[str, Pool], second: dict[str, Pool], pods: list[RequestFacts]
) -> None:
    memory = SelectionMemo(PLAIN)
    for catalog in (PoolCatalog(first), PoolCatalog(second), PoolCatalog(first)):
        for number, one in enumerate(pods * 2):
            named = one._replace(pod=one.pod._replace(name=f"web-{number}", uid=f"uid-{number}"))

            assert by_memory(memory, ETH0, named, catalog) == by_rules(ETH0, named, catalog)


BASE = facts_of({})
OTHERS = {
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
STRICT = PoolCatalog(
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


@pytest.mark.parametrize("changed", OTHERS)
def test_the_cache_key_has_every_field_that_a_rule_reads(changed: str) -> None:
    memory = SelectionMemo(PLAIN)
    before = by_memory(memory, ETH0, BASE, STRICT)

    after = by_memory(memory, ETH0, OTHERS[changed], STRICT)

    assert after == by_rules(ETH0, OTHERS[changed], STRICT)
    assert after != before


def test_another_interface_or_network_is_another_request() -> None:
    memory = SelectionMemo(PLAIN)
    for request in (ETH0, SelectionRequest("net1"), SelectionRequest("eth0", ("free",))):
        assert by_memory(memory, request, BASE, STRICT) == by_rules(request, BASE, STRICT)


def test_no_rule_is_evaluated_for_the_second_pod_of_a_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[RequestFacts] = []

    def counted(*arguments: object) -> Selection:
        asked.append(arguments[1])  # type: ignore[arg-type]
        return select(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(memo, "select", counted)
    memory = SelectionMemo(PLAIN)
    owner = Owner("Deployment", "web")
    for number in range(3):
        pod = BASE.pod._replace(name=f"web-{number}", uid=f"uid-{number}", owner=owner)
        memory.select(ETH0, BASE._replace(pod=pod), STRICT)
    assert len(asked) == 1

    subnet = facts_of({POD_SUBNET: '{"ipv4":["lan"]}'})
    for _ in range(2):
        memory.select(ETH0, subnet, STRICT)
    assert len(asked) == 3, "automatic pools may belong to one Pod alone"


def test_the_cache_is_bounded() -> None:
    memory = SelectionMemo(PLAIN)
    for number in range(2 * SELECTIONS_MAX):
        memory.select(SelectionRequest(f"net{number}"), BASE, STRICT)

        assert len(memory._selections) <= SELECTIONS_MAX
