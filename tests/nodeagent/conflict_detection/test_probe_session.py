"""The state machine of probes, without a network."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.manifests.kinds.coordinators import DetectOptions
from core.manifests.networks.detect_options import read_timing
from nodeagent.conflict_detection.arp import (
    ARP_REPLY,
    ARP_REQUEST,
    ArpPacket,
    arp_announcement,
    arp_probe,
    decode_arp,
    encode_arp,
)
from nodeagent.conflict_detection.ndp import (
    ALL_NODES,
    UNSPECIFIED_ADDRESS,
    Advertisement,
    Solicitation,
    decode_message,
    encode_advertisement,
    encode_solicitation,
)
from nodeagent.conflict_detection.probe_codecs import ARP_CODEC, ND_CODEC, ProbeCodec, ProbeRequest
from nodeagent.conflict_detection.probe_schedule import (
    CONFLICT_PROBES,
    CONFLICT_SCHEDULE,
    CONFLICT_WINDOW_S,
    GATEWAY_PROBES,
    GATEWAY_SCHEDULE,
    GATEWAY_WINDOW_S,
    PROBES_MAX,
    WINDOW_S_MAX,
    schedule_of_network,
)
from nodeagent.conflict_detection.probe_session import (
    AddressFree,
    ConflictFound,
    GatewaySilent,
    ProbeState,
    ProbeStep,
    advance,
    receive_frame,
    start_probe,
)

OUR_MAC = bytes.fromhex("020000000001")
THEIR_MAC = bytes.fromhex("020000000099")
ROUTER_MAC = bytes.fromhex("0200000000fe")
ADDRESS = inet_pton(AF_INET, "10.6.0.17")
GATEWAY = inet_pton(AF_INET, "10.6.0.1")
ADDRESS6 = inet_pton(AF_INET6, "fd00:6::11")
GATEWAY6 = inet_pton(AF_INET6, "fd00:6::1")

REQUEST_IPV4 = ProbeRequest(ADDRESS, OUR_MAC, conflict=True, gateway=GATEWAY)
REQUEST_IPV6 = ProbeRequest(ADDRESS6, OUR_MAC, conflict=True, gateway=GATEWAY6)

BOTH_CODECS = pytest.mark.parametrize(
    ("codec", "probe_request", "conflicting_frame", "router_frame"),
    [
        (
            ARP_CODEC,
            REQUEST_IPV4,
            encode_arp(ArpPacket(ARP_REPLY, THEIR_MAC, ADDRESS, OUR_MAC, bytes(4)), OUR_MAC),
            encode_arp(ArpPacket(ARP_REPLY, ROUTER_MAC, GATEWAY, OUR_MAC, ADDRESS), OUR_MAC),
        ),
        (
            ND_CODEC,
            REQUEST_IPV6,
            encode_advertisement(
                Advertisement(ADDRESS6, ALL_NODES, ADDRESS6, THEIR_MAC), THEIR_MAC
            ),
            encode_advertisement(
                Advertisement(GATEWAY6, ADDRESS6, GATEWAY6, ROUTER_MAC, solicited=True),
                ROUTER_MAC,
                OUR_MAC,
            ),
        ),
    ],
    ids=["ARP", "ND"],
)


def run_without_answers(
    step: ProbeStep, codec: ProbeCodec
) -> tuple[ProbeState, list[tuple[float, bytes]]]:
    """Run a probe without answers; return the last state, and frames with send times."""
    sent = [(0.0, frame) for frame in step.send]
    state = step.state
    while state.finding is None:
        now = state.due
        step = advance(state, codec, now)
        sent += [(round(now, 6), frame) for frame in step.send]
        state = step.state
    return state, sent


@BOTH_CODECS
def test_a_probe_without_answers_finds_a_silent_gateway(
    codec: ProbeCodec, probe_request: ProbeRequest, conflicting_frame: bytes, router_frame: bytes
) -> None:
    state, sent = run_without_answers(start_probe(probe_request, codec, 0.0), codec)

    assert state.finding == GatewaySilent()
    assert state.due == pytest.approx(CONFLICT_WINDOW_S + GATEWAY_WINDOW_S)
    conflict_probe, gateway_probe = (
        codec.conflict_probe(probe_request),
        codec.gateway_probe(probe_request),
    )
    conflict_times = [when for when, frame in sent if frame == conflict_probe]
    gateway_times = [when for when, frame in sent if frame == gateway_probe]
    assert len(conflict_times) == CONFLICT_PROBES
    assert len(gateway_times) == GATEWAY_PROBES
    assert max(conflict_times) < CONFLICT_WINDOW_S <= min(gateway_times)


@pytest.mark.parametrize(
    ("options", "sent_at", "ends_s"),
    [
        (DetectOptions(), (0, 1 / 30, 2 / 30), 0.1),
        (DetectOptions(retries=2), (0, 0.05), 0.1),
        (DetectOptions(timeout="300ms"), (0, 0.1, 0.2), 0.3),
        (DetectOptions(interval="2s"), (0, 2, 4), 6),
        (DetectOptions(retries=3, interval="1s", timeout="3s"), (0, 1, 2), 3),
        (DetectOptions(retries=3, interval="10ms", timeout="100ms"), (0, 0.01, 0.02), 0.1),
        (DetectOptions(retries=3, interval="1s", timeout="1s"), (0,), 1),
        (
            DetectOptions(retries=9, interval="10ms", timeout="70ms"),
            (0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06),
            0.07,
        ),
        (DetectOptions(retries=3, interval="1h", timeout="1us"), (0,), 1e-6),
        (DetectOptions(retries=3, interval="1s", timeout="1.5s"), (0, 1), 1.5),
        (DetectOptions(interval="1m"), (0,), WINDOW_S_MAX),
        (DetectOptions(retries=1, timeout="1h"), (0,), WINDOW_S_MAX),
    ],
)
def test_detect_options_set_the_times_of_probes(
    options: DetectOptions, sent_at: tuple[float, ...], ends_s: float
) -> None:
    schedule = schedule_of_network(CONFLICT_SCHEDULE, read_timing(options))
    state, sent = run_without_answers(
        start_probe(REQUEST_IPV4._replace(gateway=b"", conflict_schedule=schedule), ARP_CODEC, 0.0),
        ARP_CODEC,
    )

    assert [when for when, _ in sent] == pytest.approx(sent_at, abs=1e-5)
    assert state.due == pytest.approx(ends_s)
    assert schedule.window_s == pytest.approx(ends_s)


def test_detect_options_cannot_raise_the_number_of_probes_above_the_limit() -> None:
    options = DetectOptions(retries=10_000, interval="1ns", timeout="1s")

    assert schedule_of_network(GATEWAY_SCHEDULE, read_timing(options)).probes == PROBES_MAX


@BOTH_CODECS
def test_the_address_is_free_if_there_is_no_gateway_and_no_answer(
    codec: ProbeCodec, probe_request: ProbeRequest, conflicting_frame: bytes, router_frame: bytes
) -> None:
    state, _ = run_without_answers(
        start_probe(probe_request._replace(gateway=b""), codec, 0.0), codec
    )

    assert state.finding == AddressFree()
    assert state.due == pytest.approx(CONFLICT_WINDOW_S)


@BOTH_CODECS
def test_only_the_gateway_is_probed_if_conflict_detection_is_disabled(
    codec: ProbeCodec, probe_request: ProbeRequest, conflicting_frame: bytes, router_frame: bytes
) -> None:
    step = start_probe(probe_request._replace(conflict=False), codec, 0.0)

    assert step.send == (codec.gateway_probe(probe_request),)
    assert receive_frame(step.state, codec, conflicting_frame).finding is None
    assert receive_frame(step.state, codec, router_frame).finding == AddressFree(ROUTER_MAC)


def test_no_frame_is_sent_if_both_detections_are_disabled() -> None:
    step = start_probe(ProbeRequest(ADDRESS, OUR_MAC, conflict=False), ARP_CODEC, 0.0)

    assert step == ProbeStep(step.state, ())
    assert step.state.finding == AddressFree()


@BOTH_CODECS
def test_a_conflicting_host_ends_the_probe_immediately(
    codec: ProbeCodec, probe_request: ProbeRequest, conflicting_frame: bytes, router_frame: bytes
) -> None:
    state = receive_frame(start_probe(probe_request, codec, 0.0).state, codec, conflicting_frame)

    assert state.finding == ConflictFound(THEIR_MAC)
    assert advance(state, codec, 1.0) == ProbeStep(state), "expected no more frames"
    assert receive_frame(state, codec, router_frame) == state


@BOTH_CODECS
def test_a_conflicting_host_is_found_while_the_gateway_is_probed(
    codec: ProbeCodec, probe_request: ProbeRequest, conflicting_frame: bytes, router_frame: bytes
) -> None:
    state = start_probe(probe_request, codec, 0.0).state
    while not state.probing_gateway:
        state = advance(state, codec, state.due).state

    assert receive_frame(state, codec, conflicting_frame).finding == ConflictFound(THEIR_MAC)


@BOTH_CODECS
def test_a_packet_of_the_gateway_before_the_gateway_probe_is_ignored(
    codec: ProbeCodec, probe_request: ProbeRequest, conflicting_frame: bytes, router_frame: bytes
) -> None:
    state = start_probe(probe_request, codec, 0.0).state
    assert receive_frame(state, codec, router_frame).finding is None
    while not state.probing_gateway:
        state = advance(state, codec, state.due).state

    assert receive_frame(state, codec, router_frame).finding == AddressFree(ROUTER_MAC)


@BOTH_CODECS
def test_advancing_before_the_due_time_changes_nothing(
    codec: ProbeCodec, probe_request: ProbeRequest, conflicting_frame: bytes, router_frame: bytes
) -> None:
    state = start_probe(probe_request, codec, 5.0).state

    assert advance(state, codec, 5.0 + CONFLICT_WINDOW_S / CONFLICT_PROBES / 2) == ProbeStep(state)


def test_late_timers_skip_no_probe_and_keep_the_wait_for_answers() -> None:
    state = start_probe(REQUEST_IPV4._replace(gateway=b""), ARP_CODEC, 0.0).state
    sent, now = 1, 0.0
    while state.finding is None:
        now = state.due + 10.0
        step = advance(state, ARP_CODEC, now)
        sent += len(step.send)
        state = step.state
        assert state.finding is not None or state.due > now

    assert (sent, state.finding) == (CONFLICT_PROBES, AddressFree())


CONFLICTING_PACKETS = {
    "a reply from the address": ArpPacket(ARP_REPLY, THEIR_MAC, ADDRESS, OUR_MAC, bytes(4)),
    "a request from the address": ArpPacket(ARP_REQUEST, THEIR_MAC, ADDRESS, bytes(6), GATEWAY),
    "a gratuitous announcement": arp_announcement(THEIR_MAC, ADDRESS),
    "another host's probe": arp_probe(THEIR_MAC, ADDRESS),
}
HARMLESS_PACKETS = {
    "our own probe": arp_probe(OUR_MAC, ADDRESS),
    "our own address in a reply": ArpPacket(ARP_REPLY, OUR_MAC, ADDRESS, THEIR_MAC, GATEWAY),
    "a request for the address": ArpPacket(ARP_REQUEST, THEIR_MAC, GATEWAY, bytes(6), ADDRESS),
    "a probe for another address": arp_probe(THEIR_MAC, GATEWAY),
    "a reply from another address": ArpPacket(ARP_REPLY, THEIR_MAC, GATEWAY, OUR_MAC, ADDRESS),
    "a group's MAC address as the sender": ArpPacket(
        ARP_REPLY, b"\xff" * 6, ADDRESS, OUR_MAC, bytes(4)
    ),
}


@pytest.mark.parametrize("packet", CONFLICTING_PACKETS.values(), ids=CONFLICTING_PACKETS)
def test_an_arp_packet_of_a_conflicting_host_is_recognized(packet: ArpPacket) -> None:
    assert ARP_CODEC.conflicting_mac(encode_arp(packet), REQUEST_IPV4) == THEIR_MAC


@pytest.mark.parametrize("packet", HARMLESS_PACKETS.values(), ids=HARMLESS_PACKETS)
def test_a_harmless_arp_packet_is_not_a_conflict(packet: ArpPacket) -> None:
    assert ARP_CODEC.conflicting_mac(encode_arp(packet), REQUEST_IPV4) == b""


def test_the_frames_mac_address_is_used_if_there_is_no_link_layer_option() -> None:
    advertisement = Advertisement(ADDRESS6, ALL_NODES, ADDRESS6)
    assert (
        ND_CODEC.conflicting_mac(encode_advertisement(advertisement, THEIR_MAC), REQUEST_IPV6)
        == THEIR_MAC
    )


def test_duplicate_address_detection_of_another_host_is_a_conflict() -> None:
    theirs = encode_solicitation(Solicitation(UNSPECIFIED_ADDRESS, ADDRESS6), THEIR_MAC)
    ours = encode_solicitation(Solicitation(UNSPECIFIED_ADDRESS, ADDRESS6), OUR_MAC)
    request = encode_solicitation(Solicitation(GATEWAY6, ADDRESS6, ROUTER_MAC), ROUTER_MAC)

    assert ND_CODEC.conflicting_mac(theirs, REQUEST_IPV6) == THEIR_MAC
    assert ND_CODEC.conflicting_mac(ours, REQUEST_IPV6) == b"", (
        "expected our own frame to be ignored (RFC 4862, 5.4.3)"
    )
    assert ND_CODEC.conflicting_mac(request, REQUEST_IPV6) == b"", (
        "expected no conflict from a request for the address"
    )


def test_a_gateway_probe_has_the_new_address_as_sender() -> None:
    arp = decode_arp(ARP_CODEC.gateway_probe(REQUEST_IPV4))
    received = decode_message(ND_CODEC.gateway_probe(REQUEST_IPV6))

    assert arp == ArpPacket(ARP_REQUEST, OUR_MAC, ADDRESS, bytes(6), GATEWAY)
    assert received is not None
    assert received.message == Solicitation(ADDRESS6, GATEWAY6, OUR_MAC)


def test_announcements_are_sent_to_all_hosts() -> None:
    (arp,) = ARP_CODEC.announcements(ADDRESS, OUR_MAC)
    advertised, solicited = map(decode_message, ND_CODEC.announcements(ADDRESS6, OUR_MAC))

    assert decode_arp(arp) == arp_announcement(OUR_MAC, ADDRESS)
    assert advertised is not None
    assert advertised.message == Advertisement(
        ADDRESS6, ALL_NODES, ADDRESS6, OUR_MAC, override=True
    )
    assert solicited is not None
    assert solicited.message == Solicitation(ADDRESS6, ADDRESS6, OUR_MAC)


frames = st.binary(max_size=100) | st.sampled_from(
    (
        encode_arp(CONFLICTING_PACKETS["another host's probe"]),
        encode_arp(HARMLESS_PACKETS["a reply from another address"]),
        *ND_CODEC.announcements(ADDRESS6, THEIR_MAC),
        *ARP_CODEC.announcements(ADDRESS, THEIR_MAC),
    )
)


@given(
    st.sampled_from(((ARP_CODEC, REQUEST_IPV4), (ND_CODEC, REQUEST_IPV6))),
    st.lists(frames | st.floats(0, 0.2), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_a_probe_ends_with_one_finding_for_any_frames_and_times(
    codec_and_request: tuple[ProbeCodec, ProbeRequest],
    inputs: list[bytes | float],
    conflict: bool,
    gateway: bool,
) -> None:
    codec, probe_request = codec_and_request
    probe_request = probe_request._replace(
        conflict=conflict, gateway=probe_request.gateway if gateway else b""
    )
    now, sent = 0.0, 0
    step = start_probe(probe_request, codec, now)
    for frame_or_seconds in inputs:
        sent += len(step.send)
        if isinstance(frame_or_seconds, float):
            now += frame_or_seconds
            step = advance(step.state, codec, now)
        else:
            step = ProbeStep(receive_frame(step.state, codec, frame_or_seconds))
    state, later_frames = run_without_answers(step, codec)

    assert state.finding is not None
    assert sent + len(later_frames) <= CONFLICT_PROBES + GATEWAY_PROBES
    assert conflict or not isinstance(state.finding, ConflictFound)
    assert gateway or state.finding in (AddressFree(), ConflictFound(THEIR_MAC))
