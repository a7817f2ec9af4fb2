"""The state machine of probes, without a network: their times and conclusions."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.manifests.kinds.coordinators import DetectOptions
from core.manifests.networks.detect_options import read_timing
from nodeagent.conflict_detection.arp import (
    REPLY,
    REQUEST,
    ArpPacket,
    arp_announcement,
    arp_probe,
    decode_arp,
    encode_arp,
)
from nodeagent.conflict_detection.ndp import (
    ALL_NODES,
    UNSPECIFIED,
    Advertisement,
    Solicitation,
    decode_message,
    encode_advertisement,
    encode_solicitation,
)
from nodeagent.conflict_detection.probe_codecs import ARP, ND, ProbeCodec, ProbeRequest
from nodeagent.conflict_detection.probe_schedule import (
    CONFLICT_PROBES,
    CONFLICT_SCHEDULE,
    CONFLICT_WINDOW_S,
    GATEWAY_PROBES,
    GATEWAY_SCHEDULE,
    GATEWAY_WINDOW_S,
    PROBES_MAX,
    WINDOW_S_MAX,
    scheduled,
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

OURS = bytes.fromhex("020000000001")
THEIRS = bytes.fromhex("020000000099")
ROUTERS = bytes.fromhex("0200000000fe")
ADDRESS = inet_pton(AF_INET, "10.6.0.17")
GATEWAY = inet_pton(AF_INET, "10.6.0.1")
ADDRESS6 = inet_pton(AF_INET6, "fd00:6::11")
GATEWAY6 = inet_pton(AF_INET6, "fd00:6::1")

ASKED = ProbeRequest(ADDRESS, OURS, conflict=True, gateway=GATEWAY)
ASKED6 = ProbeRequest(ADDRESS6, OURS, conflict=True, gateway=GATEWAY6)

BOTH = pytest.mark.parametrize(
    ("codec", "probe_request", "stranger", "router"),
    [
        (
            ARP,
            ASKED,
            encode_arp(ArpPacket(REPLY, THEIRS, ADDRESS, OURS, bytes(4)), OURS),
            encode_arp(ArpPacket(REPLY, ROUTERS, GATEWAY, OURS, ADDRESS), OURS),
        ),
        (
            ND,
            ASKED6,
            encode_advertisement(Advertisement(ADDRESS6, ALL_NODES, ADDRESS6, THEIRS), THEIRS),
            encode_advertisement(
                Advertisement(GATEWAY6, ADDRESS6, GATEWAY6, ROUTERS, solicited=True), ROUTERS, OURS
            ),
        ),
    ],
    ids=["ARP", "ND"],
)


def silence(step: ProbeStep, codec: ProbeCodec) -> tuple[ProbeState, list[tuple[float, bytes]]]:
    """The conclusion without an answer, and the probes with their times."""
    sent = [(0.0, frame) for frame in step.send]
    state = step.state
    while state.finding is None:
        now = state.due
        step = advance(state, codec, now)
        sent += [(round(now, 6), frame) for frame in step.send]
        state = step.state
    return state, sent


@BOTH
def test_silence_means_free_and_then_unreachable(
    codec: ProbeCodec, probe_request: ProbeRequest, stranger: bytes, router: bytes
) -> None:
    state, sent = silence(start_probe(probe_request, codec, 0.0), codec)

    assert state.finding == GatewaySilent()
    assert state.due == pytest.approx(CONFLICT_WINDOW_S + GATEWAY_WINDOW_S)
    probes = [when for when, frame in sent if frame == codec.conflict_probe(probe_request)]
    asked = [when for when, frame in sent if frame == codec.gateway_probe(probe_request)]
    assert len(probes) == CONFLICT_PROBES
    assert len(asked) == GATEWAY_PROBES
    assert max(probes) < CONFLICT_WINDOW_S <= min(asked), "conflict before gateway"


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
def test_a_network_says_how_often_and_how_long_it_is_asked(
    options: DetectOptions, sent_at: tuple[float, ...], ends_s: float
) -> None:
    schedule = scheduled(CONFLICT_SCHEDULE, read_timing(options))
    state, sent = silence(
        start_probe(ASKED._replace(gateway=b"", conflict_schedule=schedule), ARP, 0.0), ARP
    )

    assert [when for when, _ in sent] == pytest.approx(sent_at, abs=1e-5)
    assert state.due == pytest.approx(ends_s)
    assert schedule.window_s == pytest.approx(ends_s)


def test_no_network_gets_more_probes_than_the_limit() -> None:
    options = DetectOptions(retries=10_000, interval="1ns", timeout="1s")

    assert scheduled(GATEWAY_SCHEDULE, read_timing(options)).probes == PROBES_MAX


@BOTH
def test_without_a_gateway_silence_means_free(
    codec: ProbeCodec, probe_request: ProbeRequest, stranger: bytes, router: bytes
) -> None:
    state, _ = silence(start_probe(probe_request._replace(gateway=b""), codec, 0.0), codec)

    assert state.finding == AddressFree()
    assert state.due == pytest.approx(CONFLICT_WINDOW_S)


@BOTH
def test_only_the_gateway_is_looked_for_where_conflicts_are_not(
    codec: ProbeCodec, probe_request: ProbeRequest, stranger: bytes, router: bytes
) -> None:
    step = start_probe(probe_request._replace(conflict=False), codec, 0.0)

    assert step.send == (codec.gateway_probe(probe_request),)
    assert receive_frame(step.state, codec, stranger).finding is None
    assert receive_frame(step.state, codec, router).finding == AddressFree(ROUTERS)


def test_with_both_switches_off_there_is_nothing_to_do() -> None:
    step = start_probe(ProbeRequest(ADDRESS, OURS, conflict=False), ARP, 0.0)

    assert step == ProbeStep(step.state, ())
    assert step.state.finding == AddressFree()


@BOTH
def test_a_stranger_ends_it_at_once(
    codec: ProbeCodec, probe_request: ProbeRequest, stranger: bytes, router: bytes
) -> None:
    state = receive_frame(start_probe(probe_request, codec, 0.0).state, codec, stranger)

    assert state.finding == ConflictFound(THEIRS)
    assert advance(state, codec, 1.0) == ProbeStep(state), "and nothing more is said"
    assert receive_frame(state, codec, router) == state


@BOTH
def test_a_stranger_is_heard_while_the_gateway_is_asked(
    codec: ProbeCodec, probe_request: ProbeRequest, stranger: bytes, router: bytes
) -> None:
    state = start_probe(probe_request, codec, 0.0).state
    while not state.at_gateway:
        state = advance(state, codec, state.due).state

    assert receive_frame(state, codec, stranger).finding == ConflictFound(THEIRS)


@BOTH
def test_the_gateway_is_not_taken_for_an_answer_before_it_was_asked(
    codec: ProbeCodec, probe_request: ProbeRequest, stranger: bytes, router: bytes
) -> None:
    state = start_probe(probe_request, codec, 0.0).state
    assert receive_frame(state, codec, router).finding is None
    while not state.at_gateway:
        state = advance(state, codec, state.due).state

    assert receive_frame(state, codec, router).finding == AddressFree(ROUTERS)


@BOTH
def test_a_tick_too_early_does_nothing(
    codec: ProbeCodec, probe_request: ProbeRequest, stranger: bytes, router: bytes
) -> None:
    state = start_probe(probe_request, codec, 5.0).state

    assert advance(state, codec, 5.0 + CONFLICT_WINDOW_S / CONFLICT_PROBES / 2) == ProbeStep(state)


def test_a_late_loop_still_sends_every_probe_and_waits_after_the_last() -> None:
    """On a busy machine timers are late: probes must not all be sent at the window's end."""
    state = start_probe(ASKED._replace(gateway=b""), ARP, 0.0).state
    sent, now = 1, 0.0
    while state.finding is None:
        now = state.due + 10.0
        step = advance(state, ARP, now)
        sent += len(step.send)
        state = step.state
        assert state.finding is not None or state.due > now

    assert (sent, state.finding) == (CONFLICT_PROBES, AddressFree())


STRANGERS_ARP = {
    "a reply from the address": ArpPacket(REPLY, THEIRS, ADDRESS, OURS, bytes(4)),
    "a request from the address": ArpPacket(REQUEST, THEIRS, ADDRESS, bytes(6), GATEWAY),
    "a gratuitous announcement": arp_announcement(THEIRS, ADDRESS),
    "another host's probe": arp_probe(THEIRS, ADDRESS),
}
OTHERS_ARP = {
    "our own probe, come back": arp_probe(OURS, ADDRESS),
    "our own address in a reply": ArpPacket(REPLY, OURS, ADDRESS, THEIRS, GATEWAY),
    "somebody asking for the address": ArpPacket(REQUEST, THEIRS, GATEWAY, bytes(6), ADDRESS),
    "a probe for another address": arp_probe(THEIRS, GATEWAY),
    "a reply from another address": ArpPacket(REPLY, THEIRS, GATEWAY, OURS, ADDRESS),
    "a group as the sender": ArpPacket(REPLY, b"\xff" * 6, ADDRESS, OURS, bytes(4)),
}


@pytest.mark.parametrize("packet", STRANGERS_ARP.values(), ids=STRANGERS_ARP)
def test_arp_that_shows_a_stranger(packet: ArpPacket) -> None:
    assert ARP.conflicting_mac(encode_arp(packet), ASKED) == THEIRS


@pytest.mark.parametrize("packet", OTHERS_ARP.values(), ids=OTHERS_ARP)
def test_arp_that_shows_none(packet: ArpPacket) -> None:
    assert ARP.conflicting_mac(encode_arp(packet), ASKED) == b""


def test_an_advertisement_without_option_shows_the_frames_sender() -> None:
    said = Advertisement(ADDRESS6, ALL_NODES, ADDRESS6)
    assert ND.conflicting_mac(encode_advertisement(said, THEIRS), ASKED6) == THEIRS


def test_another_hosts_duplicate_address_detection_shows_a_stranger() -> None:
    theirs = encode_solicitation(Solicitation(UNSPECIFIED, ADDRESS6), THEIRS)
    ours = encode_solicitation(Solicitation(UNSPECIFIED, ADDRESS6), OURS)
    asking = encode_solicitation(Solicitation(GATEWAY6, ADDRESS6, ROUTERS), ROUTERS)

    assert ND.conflicting_mac(theirs, ASKED6) == THEIRS
    assert ND.conflicting_mac(ours, ASKED6) == b"", "our own frame, come back (RFC 4862, 5.4.3)"
    assert ND.conflicting_mac(asking, ASKED6) == b"", "who asks for it does not use it"


def test_the_gateway_question_carries_where_to_answer() -> None:
    arp = decode_arp(ARP.gateway_probe(ASKED))
    heard = decode_message(ND.gateway_probe(ASKED6))

    assert arp == ArpPacket(REQUEST, OURS, ADDRESS, bytes(6), GATEWAY)
    assert heard is not None
    assert heard.message == Solicitation(ADDRESS6, GATEWAY6, OURS)


def test_addresses_are_announced_to_everybody() -> None:
    (arp,) = ARP.announcements(ADDRESS, OURS)
    advertised, solicited = (decode_message(one) for one in ND.announcements(ADDRESS6, OURS))

    assert decode_arp(arp) == arp_announcement(OURS, ADDRESS)
    assert advertised is not None
    assert advertised.message == Advertisement(ADDRESS6, ALL_NODES, ADDRESS6, OURS, override=True)
    assert solicited is not None
    assert solicited.message == Solicitation(ADDRESS6, ADDRESS6, OURS)


frames = st.binary(max_size=100) | st.sampled_from(
    (
        encode_arp(STRANGERS_ARP["another host's probe"]),
        encode_arp(OTHERS_ARP["a reply from another address"]),
        *ND.announcements(ADDRESS6, THEIRS),
        *ARP.announcements(ADDRESS, THEIRS),
    )
)


@given(
    st.sampled_from(((ARP, ASKED), (ND, ASKED6))),
    st.lists(frames | st.floats(0, 0.2), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_whatever_happens_it_ends_in_time_and_says_one_thing(
    spoken: tuple[ProbeCodec, ProbeRequest],
    things: list[bytes | float],
    conflict: bool,
    gateway: bool,
) -> None:
    codec, probe_request = spoken
    probe_request = probe_request._replace(
        conflict=conflict, gateway=probe_request.gateway if gateway else b""
    )
    now, sent = 0.0, 0
    step = start_probe(probe_request, codec, now)
    for thing in things:
        sent += len(step.send)
        if isinstance(thing, float):
            now += thing
            step = advance(step.state, codec, now)
        else:
            step = ProbeStep(receive_frame(step.state, codec, thing))
    state, rest = silence(step, codec)

    assert state.finding is not None
    assert sent + len(rest) <= CONFLICT_PROBES + GATEWAY_PROBES
    assert conflict or not isinstance(state.finding, ConflictFound)
    assert gateway or state.finding in (AddressFree(), ConflictFound(THEIRS))
