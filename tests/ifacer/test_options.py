"""Bond options as text and as the kernel's attributes.

See docs/reference/cni-configuration.md, "Bond options".
"""

from __future__ import annotations

import sys

import pytest

from core.errors import BadInput
from nodeagent.ifacer.options import NUMBERS, BondOptions, bond_data, read_options
from nodeagent.netlink.codec import attributes

READINGS = {
    "nothing": ("", BondOptions()),
    "a number": ("miimon=100", BondOptions((("miimon", 100),))),
    "several, with blanks": (
        " miimon = 100 ; lacp_rate=1;",
        BondOptions((("miimon", 100), ("lacp_rate", 1))),
    ),
    "zero says nothing": ("miimon=0;use_carrier=-1", BondOptions()),
    "unknown keys say nothing": ("updelay=5;colour=red", BondOptions()),
    "pieces without one equals sign say nothing": (
        "miimon;=;a=b=c;up_delay=7",
        BondOptions((("up_delay", 7),)),
    ),
    "an invalid first piece spoils nothing": ("nonsense;miimon=1", BondOptions((("miimon", 1),))),
    "interfaces": ("primary=ens3;active_slave=ens4", BondOptions(primary="ens3", active="ens4")),
    "a list": (
        'arp_ip_target=["10.0.0.1","10.0.0.2"]',
        BondOptions(arp_targets=("10.0.0.1", "10.0.0.2")),
    ),
    "one address alone": ("arp_ip_target=10.0.0.1", BondOptions(arp_targets=("10.0.0.1",))),
    "a hardware address": ("ad_actor_system=02:00:00:00:00:01", BondOptions(actor=b"\2\0\0\0\0\1")),
}


@pytest.mark.parametrize(("text", "options"), READINGS.values(), ids=READINGS)
def test_options_mean_what_the_public_system_reads(text: str, options: BondOptions) -> None:
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
def test_a_value_of_the_wrong_kind_is_refused_by_its_key(text: str, key: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_options(text)

    assert refused.value.subject == key


def test_every_number_has_the_size_that_the_kernel_reads() -> None:
    text = ";".join(f"{key}=1" for key in NUMBERS)

    packed = attributes(bond_data(4, read_options(text), {}))

    for kind, size in NUMBERS.values():
        assert bytes(packed[kind]) == (1).to_bytes(size, sys.byteorder)
    assert bytes(packed[1]) == b"\4", "the mode"


def test_lists_and_interfaces_are_packed_as_the_kernel_reads_them() -> None:
    options = read_options('arp_ip_target=["10.0.0.1","10.0.0.2"];primary=ens4')

    packed = attributes(bond_data(1, options, {"ens4": 7}))

    targets = attributes(packed[8])
    assert [bytes(targets[place]) for place in (0, 1)] == [b"\x0a\0\0\1", b"\x0a\0\0\2"]
    assert bytes(packed[11]) == (7).to_bytes(4, sys.byteorder)
