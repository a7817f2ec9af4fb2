"""Hypothesis strategies for the fields of frames."""

from __future__ import annotations

from hypothesis import strategies as st

from nodeagent.conflict_detection.arp import ARP_REPLY, ARP_REQUEST, ArpPacket
from nodeagent.conflict_detection.ndp import (
    SOLICITED_NODE_PREFIX,
    UNSPECIFIED_ADDRESS,
    Advertisement,
    Solicitation,
)

MULTICAST = 0xFF

macs = st.binary(min_size=6, max_size=6)
ipv4 = st.binary(min_size=4, max_size=4)
ipv6 = st.binary(min_size=16, max_size=16)
unicast = ipv6.filter(lambda address: address[0] != MULTICAST)
solicited_node_groups = st.binary(min_size=3, max_size=3).map(
    lambda suffix: SOLICITED_NODE_PREFIX + suffix
)
link_options = macs | st.just(b"")  # the link-layer address option of a message, b"" for none

arp_packets = st.builds(
    ArpPacket, st.sampled_from((ARP_REQUEST, ARP_REPLY)), macs, ipv4, macs, ipv4
)
solicitations = st.one_of(
    st.builds(Solicitation, st.just(UNSPECIFIED_ADDRESS), unicast, st.just(b"")),
    st.builds(
        Solicitation,
        unicast.filter(lambda source: source != UNSPECIFIED_ADDRESS),
        unicast,
        link_options,
    ),
)
advertisements = st.builds(
    Advertisement,
    source=unicast,
    destination=unicast,
    target=unicast,
    link=link_options,
    router=st.booleans(),
    solicited=st.booleans(),
    override=st.booleans(),
) | st.builds(
    Advertisement,
    source=unicast,
    destination=solicited_node_groups,
    target=unicast,
    link=link_options,
    router=st.booleans(),
    solicited=st.just(False),
    override=st.booleans(),
)
