"""Encoding of probes byte by byte, and parsing of received frames."""

from __future__ import annotations

from socket import AF_INET6, inet_pton

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.conflict_detection.arp import (
    REPLY,
    ArpPacket,
    arp_announcement,
    arp_probe,
    arp_request,
    decode_arp,
    encode_arp,
)
from nodeagent.conflict_detection.ethernet import BROADCAST, is_station
from nodeagent.conflict_detection.ndp import (
    ALL_NODES,
    UNSPECIFIED,
    Advertisement,
    Message,
    ReceivedMessage,
    Solicitation,
    checksum,
    decode_message,
    encode_advertisement,
    encode_solicitation,
)
from tests.nodeagent.conflict_detection.frame_strategies import (
    advertisements,
    arp_packets,
    macs,
    solicitations,
)

OURS = bytes.fromhex("02000a060011")
THEIRS = bytes.fromhex("020000000099")
ADDRESS = bytes((10, 6, 0, 17))
ADDRESS6 = inet_pton(AF_INET6, "fd00:6::11")
GATEWAY6 = inet_pton(AF_INET6, "fd00:6::1")


def test_an_arp_probe_comes_from_nowhere() -> None:
    assert encode_arp(arp_probe(OURS, ADDRESS)).hex(" ") == (
        "ff ff ff ff ff ff 02 00 0a 06 00 11 08 06 "  # to all, from us, ARP
        "00 01 08 00 06 04 00 01 "  # Ethernet, IPv4, sizes, request
        "02 00 0a 06 00 11 00 00 00 00 "  # our hardware address, no IP address
        "00 00 00 00 00 00 0a 06 00 11"
    )


def test_a_request_for_the_gateway_comes_from_the_new_address() -> None:
    assert encode_arp(arp_request(OURS, ADDRESS, bytes((10, 6, 0, 1)))).hex(" ") == (
        "ff ff ff ff ff ff 02 00 0a 06 00 11 08 06 00 01 08 00 06 04 00 01 "
        "02 00 0a 06 00 11 0a 06 00 11 00 00 00 00 00 00 0a 06 00 01"
    )


def test_an_announcement_asks_for_itself() -> None:
    assert encode_arp(arp_announcement(OURS, ADDRESS)).hex(" ") == (
        "ff ff ff ff ff ff 02 00 0a 06 00 11 08 06 00 01 08 00 06 04 00 01 "
        "02 00 0a 06 00 11 0a 06 00 11 ff ff ff ff ff ff 0a 06 00 11"
    )


def test_a_probe_of_ipv6_comes_from_nowhere_to_the_group_of_the_address() -> None:
    assert encode_solicitation(Solicitation(UNSPECIFIED, ADDRESS6), OURS).hex(" ") == (
        "33 33 ff 00 00 11 02 00 0a 06 00 11 86 dd "
        "60 00 00 00 00 18 3a ff "  # 24 bytes of ICMPv6, hop limit 255
        "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
        "ff 02 00 00 00 00 00 00 00 00 00 01 ff 00 00 11 "
        "87 00 7d 7f 00 00 00 00 "
        "fd 00 00 06 00 00 00 00 00 00 00 00 00 00 00 11"
    )


def test_an_unsolicited_advertisement_goes_to_all_nodes_and_overrides() -> None:
    said = Advertisement(ADDRESS6, ALL_NODES, ADDRESS6, OURS, override=True)
    assert encode_advertisement(said, OURS).hex(" ") == (
        "33 33 00 00 00 01 02 00 0a 06 00 11 86 dd 60 00 00 00 00 20 3a ff "
        "fd 00 00 06 00 00 00 00 00 00 00 00 00 00 00 11 "
        "ff 02 00 00 00 00 00 00 00 00 00 00 00 00 00 01 "
        "88 00 50 59 20 00 00 00 "
        "fd 00 00 06 00 00 00 00 00 00 00 00 00 00 00 11 "
        "02 01 02 00 0a 06 00 11"
    )


@given(arp_packets)
def test_arp_is_read_as_it_was_written(packet: ArpPacket) -> None:
    assert decode_arp(encode_arp(packet)) == packet


@given(solicitations, macs)
def test_solicitations_are_read_as_they_were_written(said: Solicitation, mac: bytes) -> None:
    assert decode_message(encode_solicitation(said, mac)) == ReceivedMessage(said, mac)


@given(advertisements, macs)
def test_advertisements_are_read_as_they_were_written(said: Advertisement, mac: bytes) -> None:
    assert decode_message(encode_advertisement(said, mac, THEIRS)) == ReceivedMessage(said, mac)


@given(st.binary(max_size=120))
def test_noise_is_no_message(noise: bytes) -> None:
    for start in (b"", BROADCAST + OURS + b"\x08\x06", BROADCAST + OURS + b"\x86\xdd"):
        assert decode_arp(start + noise) is None or start
        assert decode_message(start + noise) is None


@given(solicitations | advertisements, st.data())
def test_a_changed_bit_is_no_message_of_ours(said: Message, data: st.DataObject) -> None:
    frame = bytearray(
        encode_solicitation(said, OURS)
        if isinstance(said, Solicitation)
        else encode_advertisement(said, OURS, THEIRS)
    )
    frame[data.draw(st.integers(22, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    assert decode_message(bytes(frame)) is None, "the checksum covers addresses and message"


@given(arp_packets, st.integers(0, 41))
def test_a_cut_arp_packet_is_none(packet: ArpPacket, length: int) -> None:
    assert decode_arp(encode_arp(packet)[:length]) is None


def test_padding_of_short_frames_is_no_matter() -> None:
    frame = encode_arp(arp_probe(OURS, ADDRESS)) + bytes(18)
    assert decode_arp(frame) == arp_probe(OURS, ADDRESS)
    solicitation = Solicitation(UNSPECIFIED, ADDRESS6)
    padded = encode_solicitation(solicitation, OURS) + bytes(8)
    assert decode_message(padded) == ReceivedMessage(solicitation, OURS)


def test_arp_of_other_hardware_or_with_another_operation_is_not_ours() -> None:
    frame = bytearray(encode_arp(ArpPacket(REPLY, THEIRS, ADDRESS, OURS, ADDRESS)))
    for place, value in ((15, 6), (16, 0x86), (18, 8), (19, 16), (21, 3)):
        changed = frame.copy()
        changed[place] = value
        assert decode_arp(bytes(changed)) is None


def with_sum(frame: bytearray) -> bytes:
    """The frame with a correct checksum."""
    frame[56:58] = bytes(2)
    frame[56:58] = checksum(bytes(frame[22:38]), bytes(frame[38:54]), bytes(frame[54:])).to_bytes(2)
    return bytes(frame)


INVALID = {
    "from beyond a router": (21, 64),
    "no ICMPv6": (20, 17),
    "code not zero": (55, 1),
    "a group as its target": (62, 0xFF),
    "an option without length": (79, 0),
    "an option beyond the message": (79, 2),
}


@pytest.mark.parametrize(("place", "value"), INVALID.values(), ids=INVALID)
def test_what_a_node_must_discard_is_discarded(place: int, value: int) -> None:
    said = Advertisement(GATEWAY6, ADDRESS6, GATEWAY6, THEIRS, solicited=True)
    frame = bytearray(encode_advertisement(said, THEIRS, OURS))
    assert decode_message(with_sum(frame.copy())) == ReceivedMessage(said, THEIRS)

    frame[place] = value

    assert decode_message(with_sum(frame)) is None


def test_an_advertisement_to_a_group_cannot_be_solicited() -> None:
    said = Advertisement(GATEWAY6, ALL_NODES, GATEWAY6, THEIRS, solicited=True)
    assert decode_message(encode_advertisement(said, THEIRS)) is None


def test_a_probe_with_a_link_layer_option_is_invalid() -> None:
    assert decode_message(encode_solicitation(Solicitation(UNSPECIFIED, ADDRESS6, OURS), OURS)) is (
        None
    )


def test_groups_and_zeros_are_no_stations() -> None:
    assert is_station(OURS)
    assert not is_station(BROADCAST)
    assert not is_station(bytes(6))
    assert not is_station(b"")
