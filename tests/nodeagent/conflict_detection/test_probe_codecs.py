"""Probes are encoded as the RFCs require, and received frames are decoded."""

from __future__ import annotations

from socket import AF_INET6, inet_pton

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.conflict_detection.arp import (
    ARP_REPLY,
    ArpPacket,
    arp_announcement,
    arp_probe,
    arp_request,
    decode_arp,
    encode_arp,
)
from nodeagent.conflict_detection.ethernet import BROADCAST_MAC, is_station
from nodeagent.conflict_detection.ndp import (
    ALL_NODES,
    UNSPECIFIED_ADDRESS,
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

OUR_MAC = bytes.fromhex("02000a060011")
THEIR_MAC = bytes.fromhex("020000000099")
ADDRESS = bytes((10, 6, 0, 17))
ADDRESS6 = inet_pton(AF_INET6, "fd00:6::11")
GATEWAY6 = inet_pton(AF_INET6, "fd00:6::1")


def test_an_arp_probe_has_no_sender_address() -> None:
    assert encode_arp(arp_probe(OUR_MAC, ADDRESS)).hex(" ") == (
        "ff ff ff ff ff ff 02 00 0a 06 00 11 08 06 "  # to all, from us, ARP
        "00 01 08 00 06 04 00 01 "  # Ethernet, IPv4, sizes, request
        "02 00 0a 06 00 11 00 00 00 00 "  # our hardware address, no IP address
        "00 00 00 00 00 00 0a 06 00 11"
    )


def test_a_request_for_the_gateway_comes_from_the_new_address() -> None:
    assert encode_arp(arp_request(OUR_MAC, ADDRESS, bytes((10, 6, 0, 1)))).hex(" ") == (
        "ff ff ff ff ff ff 02 00 0a 06 00 11 08 06 00 01 08 00 06 04 00 01 "
        "02 00 0a 06 00 11 0a 06 00 11 00 00 00 00 00 00 0a 06 00 01"
    )


def test_an_announcement_has_the_address_as_sender_and_target() -> None:
    assert encode_arp(arp_announcement(OUR_MAC, ADDRESS)).hex(" ") == (
        "ff ff ff ff ff ff 02 00 0a 06 00 11 08 06 00 01 08 00 06 04 00 01 "
        "02 00 0a 06 00 11 0a 06 00 11 ff ff ff ff ff ff 0a 06 00 11"
    )


def test_an_ipv6_probe_goes_to_the_solicited_node_group() -> None:
    assert encode_solicitation(Solicitation(UNSPECIFIED_ADDRESS, ADDRESS6), OUR_MAC).hex(" ") == (
        "33 33 ff 00 00 11 02 00 0a 06 00 11 86 dd "
        "60 00 00 00 00 18 3a ff "  # 24 bytes of ICMPv6, hop limit 255
        "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
        "ff 02 00 00 00 00 00 00 00 00 00 01 ff 00 00 11 "
        "87 00 7d 7f 00 00 00 00 "
        "fd 00 00 06 00 00 00 00 00 00 00 00 00 00 00 11"
    )


def test_an_unsolicited_advertisement_goes_to_all_nodes_and_has_the_override_flag() -> None:
    message = Advertisement(ADDRESS6, ALL_NODES, ADDRESS6, OUR_MAC, override=True)
    assert encode_advertisement(message, OUR_MAC).hex(" ") == (
        "33 33 00 00 00 01 02 00 0a 06 00 11 86 dd 60 00 00 00 00 20 3a ff "
        "fd 00 00 06 00 00 00 00 00 00 00 00 00 00 00 11 "
        "ff 02 00 00 00 00 00 00 00 00 00 00 00 00 00 01 "
        "88 00 50 59 20 00 00 00 "
        "fd 00 00 06 00 00 00 00 00 00 00 00 00 00 00 11 "
        "02 01 02 00 0a 06 00 11"
    )


@given(arp_packets)
def test_decoding_an_encoded_arp_packet_returns_the_packet(packet: ArpPacket) -> None:
    assert decode_arp(encode_arp(packet)) == packet


@given(solicitations, macs)
def test_decoding_an_encoded_solicitation_returns_the_message_and_its_sender(
    message: Solicitation, mac: bytes
) -> None:
    assert decode_message(encode_solicitation(message, mac)) == ReceivedMessage(message, mac)


@given(advertisements, macs)
def test_decoding_an_encoded_advertisement_returns_the_message_and_its_sender(
    message: Advertisement, mac: bytes
) -> None:
    assert decode_message(encode_advertisement(message, mac, THEIR_MAC)) == ReceivedMessage(
        message, mac
    )


@given(st.binary(max_size=120))
def test_random_bytes_are_not_decoded_to_a_message(noise: bytes) -> None:
    assert decode_arp(noise) is None
    assert decode_message(noise) is None
    for ethertype in (b"\x08\x06", b"\x86\xdd"):
        frame = BROADCAST_MAC + OUR_MAC + ethertype + noise
        decode_arp(frame)  # may return a packet, because ARP has no checksum
        assert decode_message(frame) is None


@given(solicitations | advertisements, st.data())
def test_a_frame_with_a_changed_bit_is_discarded(message: Message, data: st.DataObject) -> None:
    frame = bytearray(
        encode_solicitation(message, OUR_MAC)
        if isinstance(message, Solicitation)
        else encode_advertisement(message, OUR_MAC, THEIR_MAC)
    )
    # The IP addresses begin at byte 22.
    frame[data.draw(st.integers(22, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    assert decode_message(bytes(frame)) is None, "expected the checksum to reveal the changed bit"


@given(arp_packets, st.integers(0, 41))
def test_a_truncated_arp_packet_is_discarded(packet: ArpPacket, length: int) -> None:
    assert decode_arp(encode_arp(packet)[:length]) is None


def test_padding_of_short_frames_is_ignored() -> None:
    frame = encode_arp(arp_probe(OUR_MAC, ADDRESS)) + bytes(18)
    assert decode_arp(frame) == arp_probe(OUR_MAC, ADDRESS)
    solicitation = Solicitation(UNSPECIFIED_ADDRESS, ADDRESS6)
    padded = encode_solicitation(solicitation, OUR_MAC) + bytes(8)
    assert decode_message(padded) == ReceivedMessage(solicitation, OUR_MAC)


def test_an_arp_packet_with_an_unsupported_header_field_is_discarded() -> None:
    frame = bytearray(encode_arp(ArpPacket(ARP_REPLY, THEIR_MAC, ADDRESS, OUR_MAC, ADDRESS)))
    hardware_type, protocol, hardware_length, protocol_length, operation = 15, 16, 18, 19, 21
    for offset, value in (
        (hardware_type, 6),
        (protocol, 0x86),
        (hardware_length, 8),
        (protocol_length, 16),
        (operation, 3),
    ):
        changed = frame.copy()
        changed[offset] = value
        assert decode_arp(bytes(changed)) is None


def with_checksum(frame: bytearray) -> bytes:
    frame[56:58] = bytes(2)
    frame[56:58] = checksum(bytes(frame[22:38]), bytes(frame[38:54]), bytes(frame[54:])).to_bytes(2)
    return bytes(frame)


# The reason -> offset and value of the byte that makes a message invalid.
INVALID_BYTES = {
    "hop limit below 255: from beyond a router": (21, 64),
    "UDP instead of ICMPv6": (20, 17),
    "code not zero": (55, 1),
    "a multicast group as the target": (62, 0xFF),
    "an option without length": (79, 0),
    "an option beyond the message": (79, 2),
}


@pytest.mark.parametrize(("offset", "value"), INVALID_BYTES.values(), ids=INVALID_BYTES)
def test_messages_that_are_invalid_by_rfc_4861_are_discarded(offset: int, value: int) -> None:
    message = Advertisement(GATEWAY6, ADDRESS6, GATEWAY6, THEIR_MAC, solicited=True)
    frame = bytearray(encode_advertisement(message, THEIR_MAC, OUR_MAC))
    assert decode_message(with_checksum(frame.copy())) == ReceivedMessage(message, THEIR_MAC)

    frame[offset] = value

    assert decode_message(with_checksum(frame)) is None


def test_a_solicited_advertisement_to_a_group_is_discarded() -> None:
    message = Advertisement(GATEWAY6, ALL_NODES, GATEWAY6, THEIR_MAC, solicited=True)
    assert decode_message(encode_advertisement(message, THEIR_MAC)) is None


def test_a_probe_with_a_link_layer_option_is_discarded() -> None:
    assert (
        decode_message(
            encode_solicitation(Solicitation(UNSPECIFIED_ADDRESS, ADDRESS6, OUR_MAC), OUR_MAC)
        )
        is None
    )


def test_group_addresses_and_zero_are_not_addresses_of_a_station() -> None:
    assert is_station(OUR_MAC)
    assert not is_station(BROADCAST_MAC)
    assert not is_station(bytes(6))
    assert not is_station(b"")
