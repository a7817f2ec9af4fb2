"""The plan of a takeover of Spiderpool's allocations.

An *allocation* in the status of a SpiderIPPool may contradict the SpiderEndpoints. The commands
``plan.first`` run before the claims of ``plan.endpoints``, and ``plan.last`` after them.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.claims.takeover import Finding, TakeoverPlan, plan_takeover, remaining_plan
from core.domain.configuration.commands import ApplyPool, ApplyReservation, RetirePool
from core.domain.model import Route
from tests.core.manifests.spiderpool_dumps import (
    RawObject,
    spider_endpoint,
    spider_ip_pool,
    spider_nic,
    spider_reserved_ip,
    spiderpool_cluster,
)

NET = "10.6.0.0/16"
IPS = "10.6.0.1-10.6.0.9"


def claimed(plan: TakeoverPlan) -> dict[str, str]:
    """Address -> name of the endpoint that will hold it."""
    return {
        address: endpoint.name for endpoint in plan.endpoints for address, _ in endpoint.addresses()
    }


def actions(plan: TakeoverPlan) -> list[str]:
    return [finding.done for finding in plan.findings]


def test_allocations_and_endpoints_that_agree_give_no_findings() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS, allocations={"10.6.0.1": "shop/a ua"}),
            spider_endpoint("a", "ua", spider_nic("10.6.0.1/16", "p")),
        )
    )

    assert claimed(plan) == {"10.6.0.1": "a"}
    assert plan.findings == ()


def test_the_address_of_an_endpoint_without_an_allocation_is_taken_over() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS),
            spider_endpoint("a", "ua", spider_nic("10.6.0.1/16", "p")),
        )
    )

    assert claimed(plan) == {"10.6.0.1": "a"}
    assert actions(plan) == ["taken over"]


def test_an_allocation_without_an_endpoint_is_kept_for_its_pod() -> None:
    plan = plan_takeover(
        spiderpool_cluster(spider_ip_pool("p", NET, IPS, allocations={"10.6.0.1": "shop/a ua"}))
    )

    assert claimed(plan) == {"10.6.0.1": "a"}
    assert plan.endpoints[0].uid == "ua"
    assert actions(plan) == ["kept for the Pod until it is proved to be gone"]


def test_an_allocation_that_the_endpoint_lacks_is_a_leak() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool(
                "p", NET, IPS, allocations={"10.6.0.1": "shop/a ua", "10.6.0.2": "shop/a ua"}
            ),
            spider_endpoint("a", "ua", spider_nic("10.6.0.2/16", "p")),
        )
    )

    assert claimed(plan) == {"10.6.0.2": "a"}
    assert actions(plan) == ["leaked: not taken over"]


def test_the_allocation_decides_which_of_two_pods_gets_an_address() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS, allocations={"10.6.0.1": "shop/b ub"}),
            spider_endpoint("a", "ua", spider_nic("10.6.0.1/16", "p")),
            spider_endpoint("b", "ub", spider_nic("10.6.0.1/16", "p")),
        )
    )

    assert claimed(plan) == {"10.6.0.1": "b"}
    assert plan.findings[0].subject == "SpiderEndpoint/shop/a"


def test_a_pod_claims_an_address_shared_with_a_losing_pod() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS),
            spider_endpoint("a", "ua", spider_nic("10.6.0.1/16", "p")),
            spider_endpoint(
                "b",
                "ub",
                spider_nic("10.6.0.1/16", "p"),
                spider_nic("10.6.0.2/16", "p", "net1"),
            ),
            spider_endpoint("c", "uc", spider_nic("10.6.0.2/16", "p")),
        )
    )

    assert claimed(plan) == {"10.6.0.1": "a", "10.6.0.2": "c"}
    lost = [(finding.subject, finding.what) for finding in plan.findings[:2]]
    assert lost == [
        ("SpiderEndpoint/shop/b", f"has {address}, which another Pod has too")
        for address in ("10.6.0.1", "10.6.0.2")
    ]


def test_a_losing_pod_keeps_its_other_address_until_it_restarts() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS),
            spider_ip_pool("p6", "fd00::/64", "fd00::1-fd00::9"),
            spider_endpoint("a-0", "ua", spider_nic("10.6.0.1/16", "p"), owner="StatefulSet"),
            spider_endpoint(
                "b-0",
                "ub",
                spider_nic("10.6.0.1/16", "p", ipv6="fd00::2/64", ipv6Pool="p6"),
                owner="StatefulSet",
                outlives_pod=True,
            ),
        )
    )

    assert claimed(plan) == {"10.6.0.1": "a-0", "fd00::2": "b-0"}
    assert plan.endpoints[1].holder == "pod/ub"


def test_a_nic_that_loses_an_address_loses_the_routes_of_its_family() -> None:
    ipv4_route = {"dst": "10.9.0.0/16", "gw": "10.6.0.254"}
    ipv6_route = {"dst": "fd01::/64", "gw": "fd00::ff"}
    shared_nic = spider_nic(
        "10.6.0.1/16", "p", ipv6="fd00::2/64", ipv6Pool="p6", routes=[ipv4_route, ipv6_route]
    )
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS),
            spider_ip_pool("p6", "fd00::/64", "fd00::1-fd00::9"),
            spider_endpoint("a", "ua", spider_nic("10.6.0.1/16", "p")),
            spider_endpoint("b", "ub", shared_nic),
        )
    )

    assert plan.endpoints[1].nics[0].routes == (Route(**ipv6_route),)


def test_an_allocation_that_a_losing_pod_does_not_use_is_a_leak() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool(
                "p", NET, IPS, allocations={"10.6.0.1": "shop/a ua", "10.6.0.2": "shop/b ub"}
            ),
            spider_endpoint("a", "ua", spider_nic("10.6.0.1/16", "p")),
            spider_endpoint("b", "ub", spider_nic("10.6.0.1/16", "p")),
        )
    )

    assert claimed(plan) == {"10.6.0.1": "a"}
    assert plan.findings[1].what == "10.6.0.2 is recorded for shop/b, which has other addresses"
    assert plan.findings[1].done == "leaked: not taken over"


@pytest.mark.parametrize("interfaces", [("eth0", "net1"), ("", "")])
def test_an_address_of_two_nics_is_taken_over_for_the_first_nic(
    interfaces: tuple[str, str],
) -> None:
    nics = [spider_nic("10.6.0.1/16", "p", name) for name in interfaces]
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS, allocations={"10.6.0.1": "shop/a ua"}),
            spider_endpoint("a", "ua", *nics),
        )
    )

    assert claimed(plan) == {"10.6.0.1": "a"}
    assert [used.interface for used in plan.endpoints[0].nics] == [interfaces[0]]
    assert actions(plan) == ["taken over for the first NIC: restart this Pod for another address"]


def fixed_endpoint_with_a_shared_address(**second_nic: str) -> RawObject:
    """Return an endpoint of a StatefulSet whose NICs both have 10.6.0.1."""
    return spider_endpoint(
        "a-0",
        "ua",
        spider_nic("10.6.0.1/16", "p"),
        spider_nic("10.6.0.1/16", "p", "net1", **second_nic),
        owner="StatefulSet",
        outlives_pod=True,
    )


def test_a_fixed_nic_that_keeps_one_family_gets_both_after_a_restart() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS),
            spider_ip_pool("p6", "fd00::/64", "fd00::1-fd00::9"),
            fixed_endpoint_with_a_shared_address(ipv6="fd00::2/64", ipv6Pool="p6"),
        )
    )

    assert claimed(plan) == {"10.6.0.1": "a-0", "fd00::2": "a-0"}
    assert plan.endpoints[0].holder == "pod/ua"
    assert actions(plan)[0].endswith("all its fixed addresses change then")


def test_a_fixed_endpoint_that_loses_a_whole_nic_keeps_its_other_addresses() -> None:
    plan = plan_takeover(
        spiderpool_cluster(spider_ip_pool("p", NET, IPS), fixed_endpoint_with_a_shared_address())
    )

    assert plan.endpoints[0].holder == "statefulset/shop/a-0"
    assert actions(plan)[0].endswith("restart this Pod for another address")


def test_the_uid_of_the_endpoint_replaces_that_of_the_allocation() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS, allocations={"10.6.0.1": "shop/a old"}),
            spider_endpoint("a", "new", spider_nic("10.6.0.1/16", "p")),
        )
    )

    assert plan.endpoints[0].uid == "new"
    assert actions(plan) == ["taken over for the endpoint"]


@pytest.mark.parametrize(
    ("record_uid", "kept_address", "lost_uid"),
    [("new", "10.6.0.2", "old"), ("old", "10.6.0.1", "new")],
)
def test_the_record_decides_between_two_endpoints_of_one_name(
    record_uid: str, kept_address: str, lost_uid: str
) -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS, allocations={kept_address: f"shop/a {record_uid}"}),
            spider_endpoint("a", "old", spider_nic("10.6.0.1/16", "p")),
            spider_endpoint("a", "new", spider_nic("10.6.0.2/16", "p")),
        )
    )

    assert claimed(plan) == {kept_address: "a"}
    assert plan.endpoints[0].uid == record_uid
    [finding] = plan.findings
    assert finding.subject == "SpiderEndpoint/shop/a"
    assert finding.what.startswith(f"occurs more than once, here as UID {lost_uid} with 10.6.0.")


def test_an_endpoint_that_two_files_contain_gives_no_finding() -> None:
    endpoint = spider_endpoint("a", "ua", spider_nic("10.6.0.1/16", "p"))
    pool = spider_ip_pool("p", NET, IPS, allocations={"10.6.0.1": "shop/a ua"})
    plan = plan_takeover(spiderpool_cluster(pool, endpoint, endpoint))

    assert claimed(plan) == {"10.6.0.1": "a"}
    assert plan.findings == ()


def test_records_of_two_uids_of_a_pod_without_an_endpoint_are_reported() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool(
                "p", NET, IPS, allocations={"10.6.0.1": "shop/a u1", "10.6.0.2": "shop/a u2"}
            )
        )
    )

    assert claimed(plan) == {"10.6.0.1": "a", "10.6.0.2": "a"}
    finding = plan.findings[-1]
    assert finding.subject == "Pod/shop/a"
    assert finding.what.endswith("with the UIDs u1, u2")


@pytest.mark.parametrize("has_endpoint", [True, False])
def test_a_record_whose_address_is_taken_from_another_pool_is_reported(
    *, has_endpoint: bool
) -> None:
    nic = spider_nic("10.6.0.1/16", "p")
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS, allocations={"10.6.0.1": "shop/a ua"}),
            spider_ip_pool("q", NET, IPS, allocations={"10.6.0.1": "shop/b ub"}),
            *([spider_endpoint("a", "ua", nic)] if has_endpoint else []),
        )
    )

    assert claimed(plan) == {"10.6.0.1": "a"}
    assert plan.findings[-1] == Finding(
        "SpiderIPPool/q",
        "10.6.0.1 is recorded for shop/b",
        "not taken over: shop/a has the address, in SpiderIPPool/p",
    )


def test_two_different_records_of_one_address_in_one_pool_are_reported() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS, allocations={"10.6.0.1": "shop/b ub"}),
            spider_ip_pool("p", NET, IPS, allocations={"10.6.0.1": "shop/a ua"}),
            spider_endpoint("a", "ua", spider_nic("10.6.0.1/16", "p")),
        )
    )

    assert claimed(plan) == {"10.6.0.1": "a"}
    assert [finding.what for finding in plan.findings] == [
        "10.6.0.1 is recorded for shop/b of UID ub and for shop/a of UID ua"
    ]


def test_disabled_pools_retirements_and_reservations_are_applied_after_the_claims() -> None:
    terminating_pool = spider_ip_pool("terminating", "10.7.0.0/16", "10.7.0.1")
    terminating_pool["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    plan = plan_takeover(
        spiderpool_cluster(
            spider_reserved_ip("r", "10.6.0.1"),
            spider_ip_pool("p", NET, IPS, disable=True),
            terminating_pool,
        )
    )

    created_pools = [command.pool for command in plan.first if isinstance(command, ApplyPool)]
    assert [applied.disabled for applied in created_pools] == [False, False]
    kinds = [type(command) for command in plan.last]
    assert kinds == [ApplyReservation, ApplyPool, RetirePool]


def test_the_remaining_plan_applies_existing_pools_only_if_an_endpoint_is_missing() -> None:
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS, disable=True),
            spider_endpoint("a", "ua", spider_nic("10.6.0.1/16", "p")),
        )
    )
    pools = {"p": plan.last[0].pool}  # type: ignore[union-attr]
    existing = {endpoint.key: endpoint for endpoint in plan.endpoints}

    assert remaining_plan(plan, pools=pools, endpoints={}).first == plan.first
    rest = remaining_plan(plan, pools=pools, endpoints=existing)
    assert (rest.first, rest.endpoints) == ((), ())


addresses = st.sampled_from([f"10.6.0.{number}" for number in range(1, 6)])
pods = st.sampled_from(["a", "b", "c"])


@given(
    st.dictionaries(addresses, st.tuples(pods, st.sampled_from(["u1", "u2"]))),
    st.dictionaries(pods, st.tuples(addresses, st.sampled_from(["u1", "u2"]))),
)
def test_each_address_has_one_holder_or_a_finding(
    allocations: dict[str, tuple[str, str]], endpoints: dict[str, tuple[str, str]]
) -> None:
    texts = {address: f"shop/{name} {uid}" for address, (name, uid) in allocations.items()}
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS, allocations=texts),
            *(
                spider_endpoint(name, uid, spider_nic(f"{address}/16", "p"))
                for name, (address, uid) in endpoints.items()
            ),
        )
    )

    claimed_addresses = [
        address for endpoint in plan.endpoints for address, _ in endpoint.addresses()
    ]
    assert len(claimed_addresses) == len(set(claimed_addresses))
    assert len({endpoint.key for endpoint in plan.endpoints}) == len(plan.endpoints)
    addresses_before = set(allocations) | {address for address, _ in endpoints.values()}
    for address in addresses_before - set(claimed_addresses):
        assert any(address in finding.what for finding in plan.findings)


@given(
    st.dictionaries(addresses, st.tuples(pods, st.sampled_from(["u1", "u2"]))),
    st.dictionaries(pods, st.lists(addresses, min_size=1, max_size=3)),
)
def test_each_address_of_an_endpoint_is_claimed_for_a_user(
    allocations: dict[str, tuple[str, str]], endpoints: dict[str, list[str]]
) -> None:
    texts = {address: f"shop/{name} {uid}" for address, (name, uid) in allocations.items()}
    plan = plan_takeover(
        spiderpool_cluster(
            spider_ip_pool("p", NET, IPS, allocations=texts),
            *(
                spider_endpoint(
                    name,
                    "u1",
                    *(
                        spider_nic(f"{address}/16", "p", f"net{index}")
                        for index, address in enumerate(used)
                    ),
                )
                for name, used in endpoints.items()
            ),
        )
    )

    claims = claimed(plan)
    assert len(claims) == plan.addresses
    losses = {(finding.subject, finding.what) for finding in plan.findings}
    for name, used in endpoints.items():
        for address in used:
            assert address in endpoints[claims[address]]
            loss = f"SpiderEndpoint/shop/{name}", f"has {address}, which another Pod has too"
            assert (loss in losses) == (claims[address] != name)
