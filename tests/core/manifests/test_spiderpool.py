"""Output of kubectl becomes domain values, or an error that names the field."""

from __future__ import annotations

import pytest
import yaml

from core.domain.model import pod_holder, stateful_holder
from core.errors import BadInput
from core.manifests.spiderpool import read_spiderpool, values_in
from tests.core.manifests.spiderpool_dumps import (
    Plain,
    cluster,
    endpoint,
    listing,
    nic,
    pool,
    reservation,
)


def test_pools_come_with_their_records() -> None:
    found = cluster(pool("p", "10.6.0.0/16", "10.6.0.1-10.6.0.9", records={"10.6.0.1": "shop/a u"}))

    assert [record.key for record in found.pools[0].records] == [("shop", "a")]
    assert found.pools[0].records[0].uid == "u"
    assert not found.pools[0].deleting


def test_a_pool_that_is_being_deleted_is_known_as_such() -> None:
    going = pool("p", "10.6.0.0/16")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert cluster(going).pools[0].deleting


def test_yaml_and_json_say_the_same() -> None:
    objects = [pool("p", "10.6.0.0/16"), endpoint("a", "u", nic("10.6.0.1/16", "p"))]
    text = yaml.safe_dump_all(objects)

    assert read_spiderpool(values_in([text])).cluster == cluster(*objects)


def test_several_files_are_one_cluster() -> None:
    texts = [listing(pool("p", "10.6.0.0/16")), listing(reservation("r", "10.6.0.7"))]
    found = read_spiderpool(values_in(texts)).cluster

    assert (len(found.pools), len(found.reservations)) == (1, 1)
    assert read_spiderpool(values_in(["\n---\n".join(texts)])).cluster == found


@pytest.mark.parametrize(
    ("owner", "keeps", "holder"),
    [
        ("Deployment", False, pod_holder("u")),
        ("StatefulSet", True, stateful_holder("statefulset", "shop", "web-0")),
        ("StatefulSet", False, pod_holder("u")),
        ("VirtualMachine", True, stateful_holder("vm", "shop", "web-0")),
    ],
)
def test_an_endpoint_that_outlives_its_pod_is_held_by_name(
    owner: str, keeps: bool, holder: str
) -> None:
    one = endpoint("web-0", "u", nic("10.6.0.1/16", "p"), owner=owner, keeps=keeps)

    assert cluster(one).endpoints[0].holder == holder


def test_kinds_without_addresses_are_passed_over_and_counted() -> None:
    other = {"apiVersion": "x/v1", "kind": "SpiderCoordinator", "metadata": {"name": "default"}}

    assert read_spiderpool(values_in([listing(other, other)])).skipped == {"SpiderCoordinator": 2}


def bad_record() -> Plain:
    found = pool("p", "10.6.0.0/16")
    found["status"]["allocatedIPs"] = '{"10.6.0.300": {"pod": "shop/a"}}'
    return found


def no_record() -> Plain:
    found = pool("p", "10.6.0.0/16")
    found["status"]["allocatedIPs"] = "{"
    return found


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (bad_record(), "allocatedIPs: '10.6.0.300'"),
        (no_record(), "allocatedIPs"),
        (endpoint("a", "u", nic("10.6.0.1", "p")), "SpiderEndpoint shop/a"),
        ({"kind": "SpiderEndpoint", "metadata": {"name": "a"}}, "status"),
    ],
)
def test_what_cannot_be_read_is_named(bad: Plain, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_spiderpool(values_in([listing(pool("ok", "10.7.0.0/16"), bad)]))


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(BadInput, match="not JSON"):
        read_spiderpool(values_in(["{"]))
