"""A plan creates the pools that an application requests and deletes its other pools.

The application ``web`` gets the pool ``POOL_NAME`` in SpiderSubnet ``net``, which has 20 addresses.
"""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.autopools.application_plan import (
    ReconcileStep,
    plan_application,
    plan_deleted_application,
)
from core.domain.autopools.applications import Application
from core.domain.autopools.pool_names import ApplicationKey
from core.domain.autopools.pool_size import AS_MANY_AS_REPLICAS, IpNumber
from core.domain.configuration.commands import RetirePool
from core.domain.model import Claim, Pool, Scale
from tests.core.domain.autopools.samples import (
    OTHER_SUBNET,
    POOL_NAME,
    SUBNET4,
    SUBNET6,
    WEB_UID,
    carry_out,
    claims,
    plan,
    template,
    web,
)
from tests.core.domain.subnets.samples import ConfigurationHarness

NEW_UID = "00000000-0000-4000-8000-bbbbb0000000"
BOTH_FAMILIES = {"ipv4": ["net"], "ipv6": ["net6"]}
TWO_NICS = [
    {"interface": "eth0", "ipv4": ["net"]},
    {"interface": "net1", "ipv4": ["other"]},
]


def actions(steps: tuple[ReconcileStep, ...]) -> list[tuple[str, str]]:
    return [(step.action, step.pool) for step in steps]


def state_with_pools(application: Application, *objects: object) -> ConfigurationHarness:
    state = ConfigurationHarness(SUBNET4, SUBNET6, OTHER_SUBNET, *objects)  # type: ignore[arg-type]
    carry_out(state, plan(state, application))
    assert plan(state, application) == ()
    return state


def test_each_nic_and_family_gets_a_pool_of_the_same_size() -> None:
    nics = [
        {"interface": "eth0", "ipv4": ["net"], "ipv6": ["net6"]},
        {"interface": "net1", "ipv4": ["other"]},
    ]

    steps = plan(
        ConfigurationHarness(SUBNET4, SUBNET6, OTHER_SUBNET), web(3, template(nics, number="+1"))
    )

    assert [(step.action, step.pool, step.addresses) for step in steps] == [
        ("create", POOL_NAME, ("10.7.0.10-10.7.0.13",)),
        ("create", "auto6-web-eth0-1f2e3", ("fd00:7::10-fd00:7::13",)),
        ("create", "auto4-web-net1-1f2e3", ("10.8.0.10-10.8.0.13",)),
    ]


def test_one_family_gets_its_pool_although_the_other_family_is_refused() -> None:
    state = ConfigurationHarness(SUBNET4)
    application = web(2, template(BOTH_FAMILIES))

    steps = plan(state, application)
    carry_out(state, steps)

    assert actions(steps) == [("create", POOL_NAME), ("refuse", "")]
    assert actions(plan(state, application)) == [("refuse", "")]


def test_a_pool_of_a_disabled_family_does_not_change() -> None:
    state = state_with_pools(web(1, template(BOTH_FAMILIES)))
    ipv4_only = state.configuration._replace(ipv6_enabled=False)

    def plan_for(replicas: int) -> tuple[ReconcileStep, ...]:
        application = web(replicas, template(BOTH_FAMILIES))
        return plan_application(application, ipv4_only, claimed={}, default=AS_MANY_AS_REPLICAS)

    assert plan_for(replicas=1) == ()
    assert actions(plan_for(replicas=2)) == [("grow", POOL_NAME)]


def test_the_default_number_is_used_if_the_template_has_no_number() -> None:
    state = ConfigurationHarness(SUBNET4)

    (step,) = plan(state, web(2), default=IpNumber(1, is_flexible=True))

    assert step.addresses == ("10.7.0.10-10.7.0.12",)


SCALES = {
    "scaled up": (web(4), [("grow", POOL_NAME)]),
    "scaled down": (web(1), [("shrink", POOL_NAME)]),
    "unchanged": (web(2), []),
    "a larger number": (web(2, template(number="5")), [("grow", POOL_NAME)]),
    "a fixed number with the same size": (web(2, template(number="2")), [("refresh", POOL_NAME)]),
    "reclaim switched off": (web(2, template(reclaim="false")), [("refresh", POOL_NAME)]),
}


@pytest.mark.parametrize(("application", "expected"), SCALES.values(), ids=SCALES)
def test_a_change_of_the_application_changes_its_pool(
    application: Application, expected: list[tuple[str, str]]
) -> None:
    assert actions(plan(state_with_pools(web(2)), application)) == expected


def test_a_scale_down_below_the_claimed_addresses_is_refused_and_marked_for_retry() -> None:
    (step,) = plan(state_with_pools(web(3)), web(1), claims("10.7.0.10", "10.7.0.11", "10.7.0.12"))

    assert (step.action, step.pool, step.again) == ("refuse", POOL_NAME, True)
    assert "IPPool available free IPs are not enough" in step.reason


def test_a_lack_of_addresses_in_a_subnet_is_refused_and_marked_for_retry() -> None:
    (step,) = plan(ConfigurationHarness(SUBNET4), web(21))

    assert (step.action, step.again) == ("refuse", True)


def test_a_missing_subnet_is_refused_and_not_marked_for_retry() -> None:
    (step,) = plan(ConfigurationHarness(), web())

    assert (step.action, step.again) == ("refuse", False)


# The annotation of the template changes


def test_a_change_of_subnet_deletes_the_old_pool_when_it_is_empty() -> None:
    state = state_with_pools(web())
    moved_web = web(2, template({"ipv4": ["other"]}))
    claimed = claims("10.7.0.10")

    first_steps = plan(state, moved_web, claimed)
    carry_out(state, first_steps, claimed)
    second_steps = plan(state, moved_web, claimed)

    assert actions(first_steps) == [("wait", POOL_NAME), ("create", f"{POOL_NAME}-2")]
    assert actions(second_steps) == [("wait", POOL_NAME)]
    assert all(step.again and step.command is None for step in second_steps)
    last_steps = plan(state, moved_web)
    carry_out(state, last_steps)
    assert actions(last_steps) == [("delete", POOL_NAME)]
    assert plan(state, moved_web) == ()
    assert list(state.ledger.pools) == [f"{POOL_NAME}-2"]


def test_an_empty_old_pool_is_deleted_in_the_first_plan() -> None:
    state = state_with_pools(web())
    moved_web = web(2, template({"ipv4": ["other"]}))

    steps = plan(state, moved_web)
    carry_out(state, steps)

    assert actions(steps) == [("delete", POOL_NAME), ("create", POOL_NAME)]
    assert plan(state, moved_web) == ()


def test_the_old_pool_is_used_again_after_a_return_to_its_subnet() -> None:
    state = state_with_pools(web())
    moved_web = web(2, template({"ipv4": ["other"]}))
    claimed = claims("10.7.0.10")
    carry_out(state, plan(state, moved_web, claimed), claimed)

    steps = plan(state, web(), claimed)
    carry_out(state, steps, claimed)

    assert actions(steps) == [("delete", f"{POOL_NAME}-2")]
    assert list(state.ledger.pools) == [POOL_NAME]


def test_a_template_with_a_missing_subnet_changes_no_pool() -> None:
    state = state_with_pools(web())
    claimed = claims("10.7.0.10")

    steps = plan(state, web(2, template({"ipv4": ["typo"]})), claimed)

    assert actions(steps) == [("wait", POOL_NAME), ("refuse", "")]
    assert not any(step.command for step in steps)


def test_the_pool_of_a_second_nic_is_created_and_deleted_with_the_nic() -> None:
    state = state_with_pools(web())

    steps_of_two_nics = plan(state, web(2, template(TWO_NICS)))
    carry_out(state, steps_of_two_nics)
    steps_of_one_nic = plan(state, web())

    assert actions(steps_of_two_nics) == [("create", "auto4-web-net1-1f2e3")]
    assert actions(steps_of_one_nic) == [("delete", "auto4-web-net1-1f2e3")]


def test_the_pools_are_deleted_if_the_template_loses_its_annotation() -> None:
    assert actions(plan(state_with_pools(web()), web(2, {}))) == [("delete", POOL_NAME)]


def test_the_pools_are_deleted_if_the_pods_use_the_host_network() -> None:
    assert actions(plan(state_with_pools(web()), web()._replace(host_network=True))) == [
        ("delete", POOL_NAME)
    ]


def test_a_pool_with_reclaim_off_is_kept_when_the_subnet_changes() -> None:
    state = state_with_pools(web(2, template(reclaim="false")))
    moved_web = web(2, template({"ipv4": ["other"]}, reclaim="false"))

    assert actions(plan(state, moved_web)) == [("create", f"{POOL_NAME}-2")]


def test_an_old_pool_is_deleted_when_the_template_switches_reclaim_on() -> None:
    state = state_with_pools(web(2, template(reclaim="false")))
    moved_web = web(2, template({"ipv4": ["other"]}))

    assert actions(plan(state, moved_web)) == [("delete", POOL_NAME), ("create", POOL_NAME)]


def test_a_pool_that_a_user_retired_is_deleted_when_it_has_no_claims() -> None:
    state = state_with_pools(web())
    state.apply(RetirePool(POOL_NAME))

    assert actions(plan(state, web(), claims("10.7.0.10"))) == [
        ("wait", POOL_NAME),
        ("create", f"{POOL_NAME}-2"),
    ]
    assert actions(plan(state, web()))[0] == ("delete", POOL_NAME)


# The application is deleted or recreated


def test_the_pools_of_a_deleted_application_are_deleted_when_they_are_empty() -> None:
    state = state_with_pools(web(2, template(BOTH_FAMILIES)))
    claimed = claims("10.7.0.10")

    steps = plan_deleted_application(WEB_UID, state.configuration, claimed=claimed)
    carry_out(state, steps, claimed)

    assert actions(steps) == [("retire", POOL_NAME), ("delete", "auto6-web-eth0-1f2e3")]
    assert actions(plan_deleted_application(WEB_UID, state.configuration, claimed=claimed)) == [
        ("wait", POOL_NAME)
    ]
    carry_out(state, plan_deleted_application(WEB_UID, state.configuration, claimed={}))
    assert state.ledger.pools == {}
    assert plan_deleted_application(WEB_UID, state.configuration, claimed={}) == ()


def test_deleting_an_application_keeps_pools_with_reclaim_off_and_other_pools() -> None:
    state = state_with_pools(web(2, template(reclaim="false")), Pool("blue", V4, "10.9.0.0/16"))

    assert plan_deleted_application(WEB_UID, state.configuration, claimed={}) == ()
    assert (
        plan_deleted_application(NEW_UID, state_with_pools(web()).configuration, claimed={}) == ()
    )


def test_a_recreated_application_adopts_a_pool_with_reclaim_off() -> None:
    state = state_with_pools(web(2, template(reclaim="false")))

    steps = plan(state, web(2, template(reclaim="false"), NEW_UID))
    carry_out(state, steps)

    assert actions(steps) == [("adopt", POOL_NAME)]
    assert plan_deleted_application(WEB_UID, state.configuration, claimed={}) == ()


def test_an_application_of_another_kind_gets_a_pool_of_its_own() -> None:
    state = state_with_pools(web(2, template(reclaim="false")))
    key = ApplicationKey("apps/v1", "StatefulSet", "shop", "web")
    stateful_set = Application(key, NEW_UID, template(), Scale(2))

    assert actions(plan(state, stateful_set)) == [("create", "auto4-web-eth0-bbbbb")]


def test_pools_of_a_replaced_application_are_deleted() -> None:
    state = state_with_pools(web())
    replacement = web(2, uid=NEW_UID)

    steps = plan(state, replacement, claims("10.7.0.10"))
    carry_out(state, steps, claims("10.7.0.10"))

    assert actions(steps) == [("retire", POOL_NAME), ("create", "auto4-web-eth0-bbbbb")]
    assert actions(plan(state, replacement)) == [("delete", POOL_NAME)]


# Refusals

CLONE_SET = ApplicationKey("apps.kruise.io/v1alpha1", "CloneSet", "shop", "web")
WRONG_INPUTS: dict[str, tuple[Application, str]] = {
    "a Pod without a controller": (
        Application(ApplicationKey("v1", "Pod", "shop", "web"), WEB_UID, template()),
        "SpiderSubnet feature doesn't support no-controller pod",
    ),
    "a third-party workload without a number": (
        Application(CLONE_SET, WEB_UID, template()),
        "CloneSet/shop/web only supports fixed auto-created IPPool IP Number",
    ),
    "a template that cannot be read": (
        web(2, {"ipam.spidernet.io/subnet": "x"}),
        "invalid format of Pod annotation 'ipam.spidernet.io/subnet'",
    ),
}


@pytest.mark.parametrize(("application", "text"), WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_wrong_input_gives_one_refusal_and_changes_no_pool(
    application: Application, text: str
) -> None:
    (step,) = plan(state_with_pools(web()), application)

    assert (step.action, step.command, step.again) == ("refuse", None, False)
    assert text in step.reason


def test_a_third_party_workload_with_a_number_gets_that_many_addresses() -> None:
    (step,) = plan(
        ConfigurationHarness(SUBNET4), Application(CLONE_SET, WEB_UID, template(number="+3"))
    )

    assert step.addresses == ("10.7.0.10-10.7.0.12",)


def test_a_template_that_names_subnets_is_refused_if_automatic_pools_are_off() -> None:
    configuration = ConfigurationHarness(SUBNET4).configuration

    (step,) = plan_application(
        web(), configuration, claimed={}, default=AS_MANY_AS_REPLICAS, enabled=False
    )

    assert "annotation when Auto-Pool feature is disabled" in step.reason
    assert (
        plan_application(
            web(2, {}), configuration, claimed={}, default=AS_MANY_AS_REPLICAS, enabled=False
        )
        == ()
    )


def test_claims_of_other_pools_do_not_delay_a_deletion() -> None:
    other_claims = {
        "10.7.0.99": Claim(pool="blue", holder="pod/u", namespace="shop", pod="x", event="e")
    }

    assert actions(
        plan_deleted_application(
            WEB_UID, state_with_pools(web()).configuration, claimed=other_claims
        )
    ) == [("delete", POOL_NAME)]


def test_ipv6_claims_do_not_affect_a_shrinking_ipv4_pool() -> None:
    state = state_with_pools(web(3, template(BOTH_FAMILIES)))
    ipv6_claims = {
        "fd00:7::10": Claim(
            pool="auto6-web-eth0-1f2e3", holder="pod/u", namespace="shop", pod="web-0", event="e"
        )
    }

    carry_out(state, plan(state, web(1, template(BOTH_FAMILIES)), ipv6_claims), ipv6_claims)

    ips = {pool.family: pool.ips for pool in state.ledger.pools.values()}
    assert ips == {V4: ("10.7.0.12",), V6: ("fd00:7::10",)}
