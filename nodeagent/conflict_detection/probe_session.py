"""The state machine of one probe. Pure. All times are monotonic clock seconds.

    start ──▶ PROBING FOR CONFLICTS ──window over──▶ PROBING THE GATEWAY ──answer──▶ AddressFree
                     │                                   │            │
             another host ──▶ ConflictFound ◀── another host     window over ──▶ GatewaySilent

The conflict probes come first, because a gateway probe writes the address into neighbour caches.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from nodeagent.conflict_detection.probe_codecs import ProbeCodec, ProbeRequest
from nodeagent.conflict_detection.probe_schedule import ProbeSchedule


class AddressFree(NamedTuple):
    """No other host uses the address. ``gateway``: the gateway's MAC address, or b""."""

    gateway: bytes = b""


class ConflictFound(NamedTuple):
    """Another host uses the address. ``mac``: the MAC address of that host."""

    mac: bytes


class GatewaySilent(NamedTuple):
    """The gateway did not answer."""


Finding: TypeAlias = AddressFree | ConflictFound | GatewaySilent


class ProbeState(NamedTuple):
    """The state of a probe. ``finding`` is None until the probe has finished.

    ``probing_gateway``: whether the gateway is probed now. ``due``: when to call ``advance`` next.
    If ``probes_left`` is 0, the window ends at ``due``.
    """

    request: ProbeRequest
    probing_gateway: bool
    due: float
    probes_left: int
    finding: Finding | None = None


class ProbeStep(NamedTuple):
    """The next state, and the frames to send now."""

    state: ProbeState
    send: tuple[bytes, ...] = ()


def start_probe(request: ProbeRequest, codec: ProbeCodec, now: float) -> ProbeStep:
    """The first state and the first frame."""
    if request.conflict:
        probes = request.conflict_schedule.probes
        state = ProbeState(request, probing_gateway=False, due=now, probes_left=probes)
        return advance(state, codec, now)
    state = ProbeState(request, probing_gateway=False, due=now, probes_left=0)
    return _start_gateway_probe(state, codec, now)


def advance(state: ProbeState, codec: ProbeCodec, now: float) -> ProbeStep:
    """Send the next probe, begin the next window, or end. Before ``due``, change nothing."""
    if state.finding is not None or now < state.due:
        return ProbeStep(state)
    if state.probes_left:
        build_probe = codec.gateway_probe if state.probing_gateway else codec.conflict_probe
        schedule = _schedule(state)
        pause_s = schedule.interval_s if state.probes_left > 1 else schedule.wait_s
        after = state._replace(due=now + pause_s, probes_left=state.probes_left - 1)
        return ProbeStep(after, (build_probe(state.request),))
    if state.probing_gateway:
        return ProbeStep(state._replace(finding=GatewaySilent()))
    return _start_gateway_probe(state, codec, now)


def receive_frame(state: ProbeState, codec: ProbeCodec, frame: bytes) -> ProbeState:
    """The state after a received frame."""
    request = state.request
    if state.finding is not None:
        return state
    mac = codec.conflicting_mac(frame, request) if request.conflict else b""
    if mac:
        return state._replace(finding=ConflictFound(mac))
    gateway = codec.gateway_mac(frame, request) if state.probing_gateway else b""
    return state._replace(finding=AddressFree(gateway)) if gateway else state


def _start_gateway_probe(state: ProbeState, codec: ProbeCodec, now: float) -> ProbeStep:
    if not state.request.gateway:
        return ProbeStep(state._replace(finding=AddressFree()))
    probes = state.request.gateway_schedule.probes
    return advance(state._replace(probing_gateway=True, due=now, probes_left=probes), codec, now)


def _schedule(state: ProbeState) -> ProbeSchedule:
    request = state.request
    return request.gateway_schedule if state.probing_gateway else request.conflict_schedule
