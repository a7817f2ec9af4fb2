"""The annotations of a Pod template, and how many addresses they request.

See docs/reference/automatic-pool-rules.md, "Annotations of the Pod template" and "Size".
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.autopools.applications import Application, replicas_of, skip_reason
from core.domain.autopools.pool_names import ApplicationKey
from core.domain.autopools.pool_size import (
    AS_MANY_AS_REPLICAS,
    FLEXIBLE_NUMBER_KEY,
    REDUNDANT_NUMBER_KEY,
    IpNumber,
    default_number,
    pool_size,
    read_number,
)
from core.domain.autopools.subnet_annotations import NicSubnets, SubnetRequest, read_request
from core.domain.model import Scale
from core.errors import BadInput, WrongInput

PREFIX = "ipam.spidernet.io/"


def request_of(**annotations: str) -> SubnetRequest | None:
    return read_request(
        {PREFIX + key.replace("_", "-"): text for key, text in annotations.items()},
        "Deployment/shop/web",
    )


VALID_ANNOTATIONS = {
    "one NIC": ({"subnet": '{"ipv4":["a"]}'}, (NicSubnets("eth0", ipv4="a"),)),
    "both families": (
        {"subnet": '{"ipv4":["a"],"ipv6":["b"]}'}, (NicSubnets("eth0", ipv4="a", ipv6="b"),),
    ),
    "another interface": (
        {"subnet": '{"interface":"net1","ipv6":["b"]}'}, (NicSubnets("net1", ipv4="", ipv6="b"),),
    ),
    "several names, of which the first counts": (
        {"subnet": '{"ipv4":["a","b",""]}'}, (NicSubnets("eth0", ipv4="a"),),
    ),
    "keys in any case and an unknown key": (
        {"subnet": '{"IPv4":["a"],"x":1}'}, (NicSubnets("eth0", ipv4="a"),),
    ),
    "subnets takes precedence over subnet": (
        {"subnets": '[{"ipv4":["a"]}]', "subnet": "not even JSON"}, (NicSubnets("eth0", ipv4="a"),),
    ),
    "several NICs": (
        {"subnets": '[{"interface":"eth0","ipv4":["a"]},{"interface":"net1","ipv4":["b"]}]'},
        (NicSubnets("eth0", ipv4="a"), NicSubnets("net1", ipv4="b")),
    ),
    "one name in two families": (
        {"subnets": '[{"interface":"eth0","ipv4":["a"]},{"interface":"net1","ipv6":["a"]}]'},
        (NicSubnets("eth0", ipv4="a"), NicSubnets("net1", ipv4="", ipv6="a")),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("annotations", "nics"), VALID_ANNOTATIONS.values(), ids=VALID_ANNOTATIONS)
def test_valid_annotations_are_read(
    annotations: dict[str, str], nics: tuple[NicSubnets, ...]
) -> None:
    assert request_of(**annotations) == SubnetRequest(nics)


SUBNET = '{"ipv4":["a"]}'
INVALID_ANNOTATIONS = {
    "not JSON": ({"subnet": "x"}, "subnet", "invalid character"),
    "another type": ({"subnet": "[]"}, "subnet", "must be an object"),
    "an empty name": ({"subnet": '{"ipv4":[""]}'}, "subnet", "is empty"),
    "an empty name in a list": ({"subnets": '[{"ipv6":["","a"]}]'}, "subnets", "is empty"),
    "no family": ({"subnet": "{}"}, "subnet", "neither an IPv4 nor an IPv6 subnet"),
    "empty families": ({"subnet": '{"ipv4":[],"ipv6":[]}'}, "subnet", "neither an IPv4"),
    "an empty list": ({"subnets": "[]"}, "subnets", "requires at least one item"),
    "null": ({"subnets": "null"}, "subnets", "requires at least one item"),
    "an interface twice": (
        {"subnets": '[{"interface":"e","ipv4":["a"]},{"interface":"e","ipv4":["b"]}]'},
        "subnets", "duplicate interface e",
    ),
    "a subnet twice": (
        {"subnets": '[{"interface":"e","ipv4":["a"]},{"interface":"f","ipv4":["a"]}]'},
        "subnets", "duplicate IPv4 subnet a",
    ),
    "several NICs, one without a name": (
        {"subnets": '[{"interface":"e","ipv4":["a"]},{"ipv4":["b"]}]'},
        "subnets", "each item needs an interface",
    ),
    "a number in words": (
        {"subnet": SUBNET, "ippool_ip_number": "two"}, "ippool-ip-number", "must be a number",
    ),
    "a reclaim that is neither true nor false": (
        {"subnet": SUBNET, "ippool_reclaim": "yes"}, "ippool-reclaim", "neither true nor false",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("annotations", "key", "text"), INVALID_ANNOTATIONS.values(), ids=INVALID_ANNOTATIONS
)
def test_the_error_names_the_invalid_annotation(
    annotations: dict[str, str], key: str, text: str
) -> None:
    with pytest.raises(WrongInput) as caught:
        request_of(**annotations)

    message = caught.value.message
    assert message.startswith(f"wrong input, invalid format of Pod annotation '{PREFIX}{key}': ")
    assert text in message
    assert caught.value.subject == "Deployment/shop/web"


def test_a_template_without_a_subnet_requests_nothing() -> None:
    assert request_of(ippool_ip_number="nonsense") is None


@given(st.text(max_size=40))
def test_any_annotation_is_read_or_raises_wrong_input(text: str) -> None:
    outcome: object = None
    try:
        outcome = request_of(subnets=text, ippool_ip_number=text)
    except WrongInput as error:
        outcome = error

    assert isinstance(outcome, SubnetRequest | WrongInput)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", IpNumber(5)),
        ("0", IpNumber(0)),
        ("007", IpNumber(7)),
        ("+2", IpNumber(2, is_flexible=True)),
        ("+0", AS_MANY_AS_REPLICAS),
        ("ignored+3", IpNumber(3, is_flexible=True)),
        ("9223372036854775807", IpNumber(2**63 - 1)),
    ],
)
def test_a_number_is_fixed_or_flexible(text: str, expected: IpNumber) -> None:
    assert read_number(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "+", "++2", "1+2+3", "-1", "+-1", "1.5", "٣", "9223372036854775808", "9" * 40, "5 "],
)
def test_a_malformed_number_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        read_number(text)


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_every_spelling_of_true_sets_reclaim(text: str) -> None:
    assert request_of(subnet=SUBNET, ippool_reclaim=text) == SubnetRequest(
        (NicSubnets("eth0", ipv4="a"),)
    )


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_every_spelling_of_false_clears_reclaim(text: str) -> None:
    request = request_of(subnet=SUBNET, ippool_reclaim=text)

    assert request is not None
    assert not request.reclaim


DEFAULTS: dict[str, tuple[dict[str, object], IpNumber]] = {
    "neither key": ({}, AS_MANY_AS_REPLICAS),
    "the key that the chart writes": ({FLEXIBLE_NUMBER_KEY: 1}, IpNumber(1, is_flexible=True)),
    "the key that takes precedence": ({REDUNDANT_NUMBER_KEY: 2}, IpNumber(2, is_flexible=True)),
    "both keys": ({FLEXIBLE_NUMBER_KEY: 1, REDUNDANT_NUMBER_KEY: 0}, AS_MANY_AS_REPLICAS),
    "one key without a value": (
        {FLEXIBLE_NUMBER_KEY: 3, REDUNDANT_NUMBER_KEY: None},
        IpNumber(3, is_flexible=True),
    ),
}


@pytest.mark.parametrize(("settings", "expected"), DEFAULTS.values(), ids=DEFAULTS)
def test_two_configuration_keys_set_the_default_number(
    settings: dict[str, object], expected: IpNumber
) -> None:
    assert default_number(settings) == expected


@pytest.mark.parametrize("value", [-1, True, "1", 1.5, 2**63])
def test_the_error_of_a_malformed_default_names_its_key(value: object) -> None:
    with pytest.raises(BadInput) as caught:
        default_number({REDUNDANT_NUMBER_KEY: value})

    assert caught.value.subject == REDUNDANT_NUMBER_KEY


def application_of_kind(api_version: str, kind: str, scale: Scale) -> Application:
    return Application(ApplicationKey(api_version, kind, "shop", "web"), "u", {}, scale)


REPLICAS: dict[str, tuple[Application, int]] = {
    "Deployment": (application_of_kind("apps/v1", "Deployment", Scale(3)), 3),
    "Deployment without replicas": (application_of_kind("apps/v1", "Deployment", Scale()), 0),
    "ReplicaSet": (application_of_kind("apps/v1", "ReplicaSet", Scale(4)), 4),
    "StatefulSet": (application_of_kind("apps/v1", "StatefulSet", Scale(2)), 2),
    "DaemonSet by scheduled Pods": (
        application_of_kind("apps/v1", "DaemonSet", Scale(9, desired=5)),
        5,
    ),
    "Job by completions": (
        application_of_kind("batch/v1", "Job", Scale(completions=4, parallelism=2)),
        4,
    ),
    "Job by parallelism": (application_of_kind("batch/v1", "Job", Scale(parallelism=2)), 2),
    "Job with zero completions": (
        application_of_kind("batch/v1", "Job", Scale(completions=0, parallelism=7)),
        1,
    ),
    "Job without completions and parallelism": (application_of_kind("batch/v1", "Job", Scale()), 1),
    "CronJob": (application_of_kind("batch/v1", "CronJob", Scale(parallelism=3)), 3),
    "third-party workload": (
        application_of_kind("apps.kruise.io/v1alpha1", "CloneSet", Scale(8)),
        0,
    ),
    "third-party workload with the kind StatefulSet": (
        application_of_kind("apps.kruise.io/v1", "StatefulSet", Scale(8)),
        0,
    ),
}


@pytest.mark.parametrize(("application", "expected"), REPLICAS.values(), ids=REPLICAS)
def test_replicas_are_counted_by_kind(application: Application, expected: int) -> None:
    assert replicas_of(application) == expected


def test_only_a_flexible_number_is_added_to_the_replicas() -> None:
    deployment = application_of_kind("apps/v1", "Deployment", Scale(3))

    assert pool_size(deployment, IpNumber(5), AS_MANY_AS_REPLICAS) == 5
    assert pool_size(deployment, IpNumber(2, is_flexible=True), AS_MANY_AS_REPLICAS) == 5
    assert pool_size(deployment, None, IpNumber(1, is_flexible=True)) == 4


def test_a_third_party_workload_needs_a_number_and_its_replicas_are_not_added() -> None:
    clone_set = application_of_kind("apps.kruise.io/v1alpha1", "CloneSet", Scale(8))

    assert pool_size(clone_set, IpNumber(2, is_flexible=True), AS_MANY_AS_REPLICAS) == 2
    with pytest.raises(WrongInput) as caught:
        pool_size(clone_set, None, IpNumber(1, is_flexible=True))
    text = "CloneSet/shop/web only supports fixed auto-created IPPool IP Number"
    assert text in caught.value.message


SKIP_CASES: dict[str, tuple[Application, bool]] = {
    "a Deployment": (application_of_kind("apps/v1", "Deployment", Scale()), False),
    "a Deployment on the host network": (
        application_of_kind("apps/v1", "Deployment", Scale())._replace(host_network=True),
        True,
    ),
    "a ReplicaSet of a Deployment": (
        application_of_kind("apps/v1", "ReplicaSet", Scale())._replace(
            controller=("apps/v1", "Deployment")
        ),
        True,
    ),
    "a ReplicaSet of an Argo Rollout": (
        application_of_kind("apps/v1", "ReplicaSet", Scale())._replace(
            controller=("argoproj.io/v1", "Rollout")
        ),
        False,
    ),
    "a Job of a CronJob": (
        application_of_kind("batch/v1", "Job", Scale())._replace(
            controller=("batch/v1", "CronJob")
        ),
        True,
    ),
    "a Job without a controller": (application_of_kind("batch/v1", "Job", Scale()), False),
}


@pytest.mark.parametrize(("application", "expected"), SKIP_CASES.values(), ids=SKIP_CASES)
def test_an_application_that_needs_no_pool_is_skipped(
    application: Application, expected: bool
) -> None:
    assert bool(skip_reason(application)) == expected
