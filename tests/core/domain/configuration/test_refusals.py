"""Refusals, names and objects have size limits."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.addresses.ip_address import V4
from core.domain.model import Pool, Route
from core.domain.patterns.labels import LabelSelector, Requirement
from core.domain.validation.common_rules import (
    OBJECT_BYTES_MAX,
    ObjectReference,
    encoded_size_max,
    key_name_rule,
    object_name_rule,
    size_rule,
)
from core.domain.validation.pool_rules import content_rules, subnet_rule

LONG = "x" * 100_000


def test_long_subjects_and_messages_are_shortened() -> None:
    refusal = ObjectReference("Pod", LONG, LONG).refuse("Invalid", "rule", "field", LONG)

    assert len(refusal.subject) < 200
    assert len(refusal.message) < 1100
    assert refusal.message.endswith("...")


@pytest.mark.parametrize(
    "pool",
    [
        Pool("blue", V4, LONG),
        Pool("blue", V4, "10.7.0.0/16", (LONG,)),
        Pool("blue", V4, "10.7.0.0/16", gateway=LONG),
        Pool("blue", V4, "10.7.0.0/16", routes=(Route(LONG, "10.7.0.1"),)),
        Pool("blue", V4, "10.7.0.0/16", routes=(Route("10.9.0.0/16", LONG),)),
    ],
)
def test_a_long_invalid_text_is_quoted_in_part(pool: Pool) -> None:
    subject = ObjectReference("SpiderIPPool", "blue")

    bad_subnet = list(subnet_rule(subject, pool, pools={}))
    problems = bad_subnet or list(content_rules(subject, pool, pools={}))

    assert len(problems) == 1
    assert len(str(problems[0])) < 300


def test_an_object_larger_than_the_limit_is_refused() -> None:
    subject = ObjectReference("SpiderIPPool", "blue")
    pool = Pool("blue", V4, "10.7.0.0/16")
    free_bytes = OBJECT_BYTES_MAX - encoded_size_max(pool._replace(node_names=("",)))

    fitting_pool = pool._replace(node_names=("n" * free_bytes,))
    too_large_pool = pool._replace(node_names=("n" * (free_bytes + 1),))

    assert list(size_rule(subject, fitting_pool, labels={}, annotations={})) == []
    assert [
        refusal.rule for refusal in size_rule(subject, too_large_pool, labels={}, annotations={})
    ] == ["too-large"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LISTS = st.lists(TEXTS, max_size=20).map(tuple)
MAPS = st.dictionaries(TEXTS, TEXTS, max_size=3)


@given(TEXTS, LISTS, MAPS)
def test_the_computed_size_of_an_object_is_never_less_than_its_encoded_size(
    name: str, texts: tuple[str, ...], labels: dict[str, str]
) -> None:
    routes = tuple(Route(text, name) for text in texts)
    selector = LabelSelector(labels, (Requirement(name, name, texts),))
    pool = Pool(
        name,
        V4,
        name,
        texts,
        exclude_ips=texts,
        gateway=name,
        routes=routes,
        pod_affinity=selector,
        labels=labels,
    )

    assert len(msgspec.msgpack.encode(pool)) <= encoded_size_max(pool)


@given(st.text(max_size=20) | st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True))
def test_a_valid_object_name_can_be_a_part_of_a_key_in_etcd(name: str) -> None:
    subject = ObjectReference("SpiderIPPool", name)

    if not list(object_name_rule(subject)):
        assert not list(key_name_rule(subject, name, "metadata.name"))
        assert name == name.lower()
        assert "/" not in name
