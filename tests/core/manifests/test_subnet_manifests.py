"""A SpiderSubnet is written as YAML and read back; the status lists the pools."""

from __future__ import annotations

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import ApplySubnet, DeleteSubnet
from core.domain.model import Route, Subnet
from core.domain.subnets.subnet_model import Share
from core.manifests.commands import apply_command, delete_command
from core.manifests.manifest_writer import SubnetStatus, dump_yaml, to_manifest
from tests.core.domain.subnets.samples import SUBNET4
from tests.support.manifests import load_documents

SUBNET_YAML = """\
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderSubnet
metadata:
  name: net
  labels: {a: b}
spec:
  subnet: 10.7.0.0/16
  ips: [10.7.0.10-10.7.0.99]
  excludeIPs: [10.7.0.31]
  gateway: 10.7.0.1
  routes:
  - {dst: 10.0.0.0/8, gw: 10.7.0.2}
status:
  controlledIPPools: '{"forged": {"ips": ["10.7.0.10"]}}'
  allocatedIPCount: 99
"""


def subnet_of(text: str) -> Subnet:
    (manifest,) = load_documents(text)
    command = apply_command(manifest)
    assert isinstance(command, ApplySubnet)
    return command.subnet


def test_a_manifest_becomes_a_subnet_and_its_status_is_ignored() -> None:
    expected = SUBNET4._replace(labels={"a": "b"}, exclude_ips=("10.7.0.31",))

    assert subnet_of(SUBNET_YAML) == expected


def test_a_delete_command_has_only_the_name() -> None:
    (manifest,) = load_documents(SUBNET_YAML)

    assert delete_command(manifest) == DeleteSubnet("net")


def test_the_ip_version_is_derived_from_the_cidr() -> None:
    assert subnet_of(SUBNET_YAML.replace("10.7.0.0/16", "fd00::/64")).family == V6


def test_missing_routes_differ_from_an_empty_list_of_routes() -> None:
    head = SUBNET_YAML.partition("  routes:")[0]

    assert subnet_of(head).routes is None
    assert subnet_of(f"{head}  routes: []\n").routes == ()


subnets = st.builds(
    Subnet,
    st.just("net"),
    st.just(V4),
    st.just("10.7.0.0/16"),
    st.lists(st.sampled_from(["10.7.0.1", "10.7.0.9-10.7.0.12"])).map(tuple),
    st.lists(st.just("10.7.0.10")).map(tuple),
    st.sampled_from(["", "10.7.0.1"]),
    st.none() | st.lists(st.just(Route("10.0.0.0/8", "10.7.0.2"))).map(tuple),
    st.dictionaries(st.sampled_from("ab"), st.text("xyz", max_size=3)),
    st.dictionaries(st.sampled_from("cd"), st.text("xyz", max_size=3)),
    retiring=st.just(value=False),
)


@given(subnets)
def test_a_printed_subnet_reads_back_as_the_same_subnet(subnet: Subnet) -> None:
    status = SubnetStatus(allocated_count=3, shares=(Share("blue", ("10.7.0.1",)),))

    assert subnet_of(dump_yaml([to_manifest(subnet, status)])) == subnet


def test_the_status_lists_the_addresses_and_the_application_of_each_pool() -> None:
    status = SubnetStatus(
        allocated_count=4,
        shares=(
            Share(
                "auto4-web-eth0-1",
                ("10.7.0.2-10.7.0.4",),
                application="apps_v1_Deployment_shop_web",
            ),
            Share("manual", ("10.7.0.9",)),
        ),
    )

    status_read = yaml.safe_load(dump_yaml([to_manifest(SUBNET4, status)]))["status"]

    # SUBNET4 has the addresses 10.7.0.10 to 10.7.0.99.
    assert (status_read["allocatedIPCount"], status_read["totalIPCount"]) == (4, 90)
    assert json.loads(status_read["controlledIPPools"]) == {
        "auto4-web-eth0-1": {
            "application": "apps_v1_Deployment_shop_web",
            "ips": ["10.7.0.2-10.7.0.4"],
        },
        "manual": {"ips": ["10.7.0.9"]},
    }


def test_without_pools_the_field_controlled_ip_pools_is_absent() -> None:
    assert to_manifest(SUBNET4, SubnetStatus())["status"] == {
        "allocatedIPCount": 0,
        "totalIPCount": 90,
    }
