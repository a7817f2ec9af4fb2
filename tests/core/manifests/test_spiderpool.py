"""A Spiderpool cluster is read from outputs of kubectl; an error names the unreadable field."""

from __future__ import annotations

import pytest
import yaml

from core.domain.claims.takeover import plan_takeover
from core.domain.evolution import Ledger
from core.domain.model import Endpoint, Nic, Route, pod_holder, stateful_holder
from core.errors import BadInput
from core.manifests.spiderpool import read_spiderpool, values_in
from ops.kubernetes.status_reports import endpoint_report
from tests.core.manifests.spiderpool_dumps import (
    RawObject,
    listing,
    spider_endpoint,
    spider_ip_pool,
    spider_nic,
    spider_reserved_ip,
    spiderpool_cluster,
)


def test_a_pool_is_read_with_its_allocation_records() -> None:
    dump = spiderpool_cluster(
        spider_ip_pool(
            "p", "10.6.0.0/16", "10.6.0.1-10.6.0.9", allocations={"10.6.0.1": "shop/a u"}
        )
    )

    assert [record.key for record in dump.pools[0].records] == [("shop", "a")]
    assert dump.pools[0].records[0].uid == "u"
    assert not dump.pools[0].deleting


def test_a_pool_with_a_deletion_timestamp_is_marked_as_deleting() -> None:
    deleted_pool = spider_ip_pool("p", "10.6.0.0/16")
    deleted_pool["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert spiderpool_cluster(deleted_pool).pools[0].deleting


def test_yaml_and_json_read_as_the_same_cluster() -> None:
    objects = [
        spider_ip_pool("p", "10.6.0.0/16"),
        spider_endpoint("a", "u", spider_nic("10.6.0.1/16", "p")),
    ]
    text = yaml.safe_dump_all(objects)

    assert read_spiderpool(values_in([text])).cluster == spiderpool_cluster(*objects)


def test_several_files_are_read_as_one_cluster() -> None:
    texts = [
        listing(spider_ip_pool("p", "10.6.0.0/16")),
        listing(spider_reserved_ip("r", "10.6.0.7")),
    ]
    dump = read_spiderpool(values_in(texts)).cluster

    assert (len(dump.pools), len(dump.reservations)) == (1, 1)
    assert read_spiderpool(values_in(["\n---\n".join(texts)])).cluster == dump


@pytest.mark.parametrize(
    ("owner", "outlives_pod", "holder"),
    [
        ("Deployment", False, pod_holder("u")),
        ("StatefulSet", True, stateful_holder("statefulset", "shop", "web-0")),
        ("StatefulSet", False, pod_holder("u")),
        ("VirtualMachine", True, stateful_holder("vm", "shop", "web-0")),
    ],
)
def test_only_an_endpoint_that_outlives_its_pod_has_a_stateful_holder(
    owner: str, outlives_pod: bool, holder: str
) -> None:
    sample = spider_endpoint(
        "web-0", "u", spider_nic("10.6.0.1/16", "p"), owner=owner, outlives_pod=outlives_pod
    )

    assert spiderpool_cluster(sample).endpoints[0].holder == holder


@pytest.mark.parametrize(
    ("name", "owner_kind", "holder"),
    [
        ("web-0", "StatefulSet", stateful_holder("statefulset", "shop", "web-0")),
        ("vm", "VirtualMachine", stateful_holder("vm", "shop", "vm")),
        ("lan.ipamclaim", "Pod", stateful_holder("ipamclaim", "shop", "lan.ipamclaim")),
        ("web-x", "Deployment", pod_holder("u")),
    ],
)
def test_the_holder_of_a_reported_endpoint_is_read_again(
    name: str, owner_kind: str, holder: str
) -> None:
    """After the loss of etcd, the import reads the reports of Orbweaver."""
    nic = Nic("eth0", ipv4="10.6.0.1/16", ipv4_pool="p")
    endpoint = Endpoint("shop", name, "u", "node-a", holder, owner_kind, "owner", (nic,))
    ledger = Ledger()
    ledger.endpoints[endpoint.key] = endpoint
    report = endpoint_report(ledger, endpoint.key)
    assert report is not None

    assert spiderpool_cluster(report).endpoints == (endpoint,)


def test_kinds_without_addresses_are_skipped_and_counted() -> None:
    coordinator = {
        "apiVersion": "x/v1",
        "kind": "SpiderCoordinator",
        "metadata": {"name": "default"},
    }

    assert read_spiderpool(values_in([listing(coordinator, coordinator)])).skipped == {
        "SpiderCoordinator": 2
    }


@pytest.mark.parametrize(
    ("invalid", "fault"),
    [
        ({"dst": "10.9.0.0/16", "gw": "10.6.0.300"}, "'10.6.0.300'"),
        ({"dst": "10.9.0.0/99", "gw": "10.6.0.254"}, "'10.9.0.0/99'"),
        ({"dst": "fd00::/64", "gw": "10.6.0.254"}, "dst and gw are of different IP families"),
    ],
)
def test_an_invalid_route_is_left_out_and_the_other_objects_are_planned(
    invalid: dict[str, str], fault: str
) -> None:
    valid = {"dst": "10.8.0.0/16", "gw": "10.6.0.254"}
    with_route = spider_nic("10.6.0.1/16", "p", "net1", routes=[invalid, valid])
    cluster = spiderpool_cluster(
        spider_endpoint("a", "ua", spider_nic("10.6.0.1/16", "p")),
        spider_endpoint("b", "ub", with_route | {"ipv6": "fd00::2/64", "ipv6Pool": "p6"}),
        spider_endpoint("c", "uc", spider_nic("10.6.0.3/16", "p")),
    )

    assert cluster.endpoints[1].nics[0].routes == (Route(**valid),)
    plan = plan_takeover(cluster)
    assert [endpoint.name for endpoint in plan.endpoints] == ["a", "b", "c"]
    assert plan.findings[0].subject == "SpiderEndpoint/shop/b"
    assert plan.findings[0].what.startswith(f"route {invalid['dst']} via {invalid['gw']} of net1:")
    assert fault in plan.findings[0].what


DEEP_JSON = "[" * 100_000


def pool_with_invalid_address() -> RawObject:
    pool = spider_ip_pool("p", "10.6.0.0/16")
    pool["status"]["allocatedIPs"] = '{"10.6.0.300": {"pod": "shop/a"}}'
    return pool


def pool_with_invalid_json(text: str = "{") -> RawObject:
    pool = spider_ip_pool("p", "10.6.0.0/16")
    pool["status"]["allocatedIPs"] = text
    return pool


@pytest.mark.parametrize(
    ("unreadable", "words"),
    [
        (pool_with_invalid_address(), "allocatedIPs: '10.6.0.300'"),
        (pool_with_invalid_json(), "allocatedIPs"),
        pytest.param(
            pool_with_invalid_json('{"a": {"b": ' + DEEP_JSON), "allocatedIPs", id="deep JSON"
        ),
        (spider_endpoint("a", "u", spider_nic("10.6.0.1", "p")), "SpiderEndpoint shop/a"),
        ({"kind": "SpiderEndpoint", "metadata": {"name": "a"}}, "status"),
    ],
)
def test_the_error_names_the_unreadable_field(unreadable: RawObject, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_spiderpool(values_in([listing(spider_ip_pool("ok", "10.7.0.0/16"), unreadable)]))


def test_a_yaml_flow_mapping_is_read_as_yaml() -> None:
    items = [spider_ip_pool("p", "10.6.0.0/16"), spider_reserved_ip("r", "10.6.0.7")]
    cluster = {"apiVersion": "v1", "kind": "List", "items": items}
    flow = yaml.safe_dump(cluster, default_flow_style=True)
    text = f"{flow}\n---\n{yaml.safe_dump(spider_ip_pool('q', '10.7.0.0/16'))}"

    pools = read_spiderpool(values_in([text])).cluster.pools

    assert [foreign.pool.name for foreign in pools] == ["p", "q"]


@pytest.mark.parametrize("text", ["{", pytest.param('{"a": ' + DEEP_JSON, id="deep JSON")])
def test_a_text_that_is_neither_json_nor_yaml_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"neither JSON .* nor YAML"):
        read_spiderpool(values_in([text]))
