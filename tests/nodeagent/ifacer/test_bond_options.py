"""Bond options are parsed from text and encoded as the kernel's attributes.

See docs/reference/cni-configuration.md, "Bond options".
"""

from __future__ import annotations

import sys

import pytest

from core.errors import BadInput
from nodeagent.ifacer.bond_options import NUMBER_OPTIONS, BondOptions, read_options
from nodeagent.ifacer.link_messages import add_bond, add_vlan, read_bond_mode, read_vlan_id
from nodeagent.netlink.codec import attribute, attributes, elements
from nodeagent.netlink.numbers import IFLA_INFO_DATA, IFLA_LINKINFO
from nodeagent.netlink.requests import IFINFOMSG, Request
from nodeagent.netlink.values import Link

OPTIONS_BY_TEXT = {
    "an empty text": ("", BondOptions()),
    "a number": ("miimon=100", BondOptions(((NUMBER_OPTIONS["miimon"], 100),))),
    "several, with blanks": (
        " miimon = 100 ; lacp_rate=1;",
        BondOptions(((NUMBER_OPTIONS["miimon"], 100), (NUMBER_OPTIONS["lacp_rate"], 1))),
    ),
    "zero and -1 set nothing": ("miimon=0;use_carrier=-1", BondOptions()),
    "unknown keys set nothing": ("updelay=5;colour=red", BondOptions()),
    "pieces without exactly one equals sign set nothing": (
        "miimon;=;a=b=c;up_delay=7",
        BondOptions(((NUMBER_OPTIONS["up_delay"], 7),)),
    ),
    "pieces after an invalid piece are parsed": (
        "nonsense;miimon=1",
        BondOptions(((NUMBER_OPTIONS["miimon"], 1),)),
    ),
    "names of interfaces": (
        "primary=ens3;active_slave=ens4",
        BondOptions(primary="ens3", active_member="ens4"),
    ),
    "a list": (
        'arp_ip_target=["10.0.0.1","10.0.0.2"]',
        BondOptions(arp_targets=("10.0.0.1", "10.0.0.2")),
    ),
    "one address alone": ("arp_ip_target=10.0.0.1", BondOptions(arp_targets=("10.0.0.1",))),
    "a hardware address": (
        "ad_actor_system=02:00:00:00:00:01",
        BondOptions(actor_mac=b"\2\0\0\0\0\1"),
    ),
}


@pytest.mark.parametrize(("text", "options"), OPTIONS_BY_TEXT.values(), ids=OPTIONS_BY_TEXT)
def test_bond_options_are_parsed_as_in_spiderpool(text: str, options: BondOptions) -> None:
    assert read_options(text) == options


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("miimon=fast", "miimon"),
        ('miimon=["1"]', "miimon"),
        ("lacp_rate=256", "lacp_rate"),
        ("ad_user_port_key=65536", "ad_user_port_key"),
        ('arp_ip_target=["fd00::1"]', "arp_ip_target"),
        ("arp_ip_target=[1", "arp_ip_target"),
        ("arp_ip_target=[" + ",".join(['"10.0.0.1"'] * 17) + "]", "arp_ip_target"),
        ("ad_actor_system=02:00", "ad_actor_system"),
        ("x" * 4_097, "bond.options"),
    ],
)
def test_the_error_names_the_key_of_an_invalid_option_value(text: str, key: str) -> None:
    with pytest.raises(BadInput) as error:
        read_options(text)

    assert error.value.subject == key


def link_data_of(request: Request) -> dict[int, memoryview]:
    info = attributes(attributes(request.body[IFINFOMSG.size :])[IFLA_LINKINFO])
    return attributes(info[IFLA_INFO_DATA])


BOND_NUMBERS = {
    "miimon": 3, "up_delay": 4, "downdelay": 5, "use_carrier": 6, "arp_interval": 7,
    "arp_validate": 9, "arp_all_targets": 10, "primary_reselect": 12, "fail_over_mac": 13,
    "xmit_hash_policy": 14, "resend_igmp": 15, "peer_notif_delay": 16, "all_slaves_active": 17,
    "min_links": 18, "lp_interval": 19, "packets_per_slave": 20, "lacp_rate": 21, "ad_select": 22,
    "ad_actor_sys_prio": 24, "ad_user_port_key": 25, "tlb_dynamic_lb": 27,
}  # fmt: skip
"""The attribute numbers in include/uapi/linux/if_link.h; the product uses names from pyroute2."""


def test_every_numeric_option_has_the_kernels_attribute_and_size() -> None:
    text = ";".join(f"{key}=1" for key in NUMBER_OPTIONS)

    link_data = link_data_of(add_bond("bd0", 4, read_options(text), {}))

    assert BOND_NUMBERS.keys() == NUMBER_OPTIONS.keys()
    for key, option in NUMBER_OPTIONS.items():
        size = option.bits // 8
        assert bytes(link_data[BOND_NUMBERS[key]]) == (1).to_bytes(size, sys.byteorder)
    assert bytes(link_data[1]) == b"\4", "the mode"


def test_lists_and_addresses_have_the_kernels_attributes() -> None:
    text = 'arp_ip_target=["10.0.0.1","10.0.0.2"];primary=ens4;ad_actor_system=02:00:00:00:00:01'

    link_data = link_data_of(add_bond("bd0", 1, read_options(text), {"ens4": 7}))

    targets, primary, actor = link_data[8], link_data[11], link_data[26]
    assert [bytes(target) for target in elements(targets)] == [b"\x0a\0\0\1", b"\x0a\0\0\2"]
    assert bytes(primary) == (7).to_bytes(4, sys.byteorder), "the index of ens4"
    assert bytes(actor) == b"\2\0\0\0\0\1"


def test_vlan_id_and_bond_mode_are_read_from_the_kernels_attributes() -> None:
    vlan = attribute(1, (5).to_bytes(2, sys.byteorder))
    bond = attribute(1, b"\4") + attribute(3, (100).to_bytes(4, sys.byteorder))

    assert read_vlan_id(Link(3, "ens3.5", kind="vlan", data=vlan)) == 5
    assert read_bond_mode(Link(4, "bd0", kind="bond", data=bond)) == 4
    assert read_vlan_id(Link(3, "ens3.5", kind="vlan")) == 0
    link_data = link_data_of(add_vlan("ens3.5", 3, 5))
    assert bytes(link_data[1]) == (5).to_bytes(2, sys.byteorder)
