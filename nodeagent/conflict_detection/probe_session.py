"""Finding out about one address: a state machine. Times and frames in, frames and a finding out.

    begin ──▶ LOOKING FOR STRANGERS ──window over──▶ LOOKING FOR THE GATEWAY ──answer──▶ Free
                     │                                   │              │
                 a stranger ──▶ Conflict ◀── a stranger ─┘         window over ──▶ Unreachable

Strangers come first, because asking for the gateway teaches caches where the address is. Both
windows hold several probes, since a probe or its answer may be lost, and silence means opposite
things: nobody objects; nobody is there. Pure: ``now`` is any clock in seconds that never goes back.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from nodeagent.conflict_detection.probe_codecs import ProbeCodec, ProbeRequest

CONFLICT_WINDOW_S: Final = 0.1
"""See docs/reference/coordinator.md, "Conflict and gateway detection".

Answers come within 0.1 ms; RFC 5227's seconds would be the Pod's.
"""
CONFLICT_PROBES: Final = 3
"""PROBE_NUM of RFC 5227, 1.1."""

GATEWAY_WINDOW_S: Final = 0.5
GATEWAY_PROBES: Final = 5
"""Only a gateway that does not answer makes an ADD wait so long, and that ADD fails."""


class AddressFree(NamedTuple):
    """Nobody else uses the address. ``gateway``: the hardware address it answers with, or b""."""

    gateway: bytes = b""


class ConflictFound(NamedTuple):
    """A stranger uses the address, with this hardware address."""

    mac: bytes


class GatewaySilent(NamedTuple):
    """The gateway did not answer."""


Finding: TypeAlias = AddressFree | ConflictFound | GatewaySilent


class ProbeState(NamedTuple):
    """Where the conversation is. ``finding`` is None until it is over.

    ``due``: when ``advance`` has something to do; ``left``: probes still to be sent in this window,
    the next one at ``due``; with none left the window ends at ``due``.
    """

    request: ProbeRequest
    at_gateway: bool
    due: float
    left: int
    finding: Finding | None = None


class ProbeStep(NamedTuple):
    """The state after something happened, and the frames to send now."""

    state: ProbeState
    send: tuple[bytes, ...] = ()


def start_probe(request: ProbeRequest, codec: ProbeCodec, now: float) -> ProbeStep:
    """Ask for the first time."""
    if request.conflict:
        return advance(ProbeState(request, False, now, CONFLICT_PROBES), codec, now)
    return _start_gateway_probe(ProbeState(request, False, now, 0), codec, now)


def advance(state: ProbeState, codec: ProbeCodec, now: float) -> ProbeStep:
    """Time has passed: the next probe, the other window, or the end. Early ticks do nothing."""
    if state.finding is not None or now < state.due:
        return ProbeStep(state)
    if state.left:
        ask = codec.gateway_probe if state.at_gateway else codec.conflict_probe
        after = state._replace(due=now + _interval_s(state), left=state.left - 1)
        return ProbeStep(after, (ask(state.request),))
    if state.at_gateway:
        return ProbeStep(state._replace(finding=GatewaySilent()))
    return _start_gateway_probe(state, codec, now)


def receive_frame(state: ProbeState, codec: ProbeCodec, frame: bytes) -> ProbeState:
    """A frame came in: the same state, or the end."""
    request = state.request
    if state.finding is not None:
        return state
    stranger = codec.conflicting_mac(frame, request) if request.conflict else b""
    if stranger:
        return state._replace(finding=ConflictFound(stranger))
    gateway = codec.gateway_mac(frame, request) if state.at_gateway else b""
    return state._replace(finding=AddressFree(gateway)) if gateway else state


def _start_gateway_probe(state: ProbeState, codec: ProbeCodec, now: float) -> ProbeStep:
    if not state.request.gateway:
        return ProbeStep(state._replace(finding=AddressFree()))
    return advance(state._replace(at_gateway=True, due=now, left=GATEWAY_PROBES), codec, now)


def _interval_s(state: ProbeState) -> float:
    """Seconds between two probes, and between the last one and the end of the window."""
    if state.at_gateway:
        return GATEWAY_WINDOW_S / GATEWAY_PROBES
    return CONFLICT_WINDOW_S / CONFLICT_PROBES
