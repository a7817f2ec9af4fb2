"""Prints past claims and refusals for ``orbctl explain``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.audit.event_summary import binding_in_words
from core.audit.past_adds import LogMoment, PastAdds
from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    AllocationRefused,
    BindingChanged,
    PoolVerdict,
    Recorded,
)
from core.domain.selection.error_texts import SOURCE_TEXTS, describe_verdicts
from core.domain.selection.selection_request import CandidateVerdict
from core.errors import BadInput, NotFound
from ops.cli.exit_codes import Exit, report
from ops.cli.formats import Output
from ops.cli.output import duration, moment, show_value
from ops.cli.time_arguments import parse_time


def parse_moment(text: str, now_ms: int) -> LogMoment:
    """Parse a log position, or a time that is not in the future. Raises BadInput."""
    if text.isdigit():
        return LogMoment(position=int(text))
    time_ms = parse_time(text, now_ms)
    if time_ms > now_ms:
        raise BadInput(
            f"{moment(time_ms)} is in the future; it is {moment(now_ms)} now",
            subject="--as-of",
            remedy="give a time in the past",
        )
    return LogMoment(time_ms=time_ms)


def show_adds(pod: str, adds: PastAdds, output: Output, now_ms: int) -> Exit:
    """Print the results of a Pod's ADDs. ``pod``: NAMESPACE/NAME."""
    if not adds.claims and adds.refused is None:
        return report(_no_adds_error(pod, adds))
    if output.is_structured:
        show_value(plain_adds(pod, adds), output)
    else:
        print(f"Pod {pod}")
        for recorded in adds.claims:
            _show_claim(recorded, now_ms)
        if adds.binding is not None:
            assert isinstance(adds.binding.event, BindingChanged)
            print(f"{binding_in_words(adds.binding.event)}, since {_at(adds.binding, now_ms)}")
        if adds.refused is not None:
            _show_refusal(adds.refused, now_ms)
    return Exit.OK if adds.refused is None else Exit.REFUSED


def _no_adds_error(pod: str, adds: PastAdds) -> NotFound:
    message = f"Pod {pod} had no address and no refused ADD"
    if adds.released is not None:
        event = adds.released.event
        assert isinstance(event, AddressesReleased)
        why = f"{event.reason}: {event.evidence}" if event.evidence else event.reason
        at = moment(adds.released.recorded_at_ms)
        message += f" since the release of {', '.join(event.addresses())} at {at} ({why})"
    return NotFound(message, remedy=f"`orbctl history {pod}` shows the addresses that the Pod had")


def _show_claim(recorded: Recorded, now_ms: int) -> None:
    event = recorded.event
    assert isinstance(event, AddressesClaimed)
    claimed = ", ".join(f"{address} ({pool})" for address, pool in _claimed_addresses(event))
    print(f"got {claimed}")
    _show_source(event.source)
    _show_verdicts(event.passed_over)
    nics = ", ".join(event.endpoint.nics[index].interface or "-" for index in event.new_nics)
    print(f"claimed at {_at(recorded, now_ms)}: NIC {nics} on {event.endpoint.node}")


def _show_refusal(recorded: Recorded, now_ms: int) -> None:
    event = recorded.event
    assert isinstance(event, AllocationRefused)
    print(f"an ADD failed: {event.message}")
    if event.remedy and "orbctl explain" not in event.remedy:
        print(f"  → {event.remedy}")
    _show_verdicts(event.verdicts)
    if event.left_out:
        print(f"  ... and {event.left_out} more")
    _show_source(event.source)
    print(f"refused at {_at(recorded, now_ms)}: NIC {event.interface} on {event.node}")


def _show_source(source: str) -> None:
    if source:
        print(f"IPPools came from {SOURCE_TEXTS.get(source, source)}")


def _show_verdicts(verdicts: Sequence[PoolVerdict]) -> None:
    nics = dict.fromkeys(verdict.interface for verdict in verdicts)
    for nic in nics:
        if len(nics) > 1:
            print(f"NIC {nic}:")
        of_nic = (verdict for verdict in verdicts if verdict.interface == nic)
        for line in describe_verdicts(map(CandidateVerdict.from_short, of_nic)):
            print(line)


def _at(recorded: Recorded, now_ms: int) -> str:
    return f"{moment(recorded.recorded_at_ms)} ({duration(now_ms - recorded.recorded_at_ms)} ago)"


def _claimed_addresses(event: AddressesClaimed) -> list[tuple[str, str]]:
    nics = event.endpoint.nics
    return [pair for index in event.new_nics for pair in nics[index].addresses()]


def plain_adds(pod: str, adds: PastAdds) -> dict[str, Any]:
    """The results for JSON and YAML. Fields that the log cannot fill are empty."""
    held_addresses = adds.endpoint.addresses() if adds.endpoint else ()
    source, verdicts, error = _newest_decision(adds)
    return {
        "pod": pod,
        "served": error is None,
        "holds": [address for address, _ in held_addresses],
        "outlook": "",
        "source": source or None,
        "demands": [],
        "verdicts": [plain_pool_verdict(verdict) for verdict in verdicts],
        "notes": [],
        "strayRoutes": [],
        "trials": [],
        "error": error,
        "claims": [_plain_claim(recorded) for recorded in adds.claims],
        "refusal": plain_refusal(adds.refused) if adds.refused else None,
        "binding": _plain_binding(adds.binding) if adds.binding else None,
    }


def _newest_decision(adds: PastAdds) -> tuple[str, tuple[PoolVerdict, ...], str | None]:
    """Source, verdicts and error of the newest ADD."""
    match (adds.refused or adds.claims[-1]).event:
        case AllocationRefused() as event:
            return event.source, event.verdicts, event.message
        case AddressesClaimed() as event:
            return event.source, event.passed_over, None
        case event:
            raise AssertionError(f"not an ADD: {event}")


def _plain_binding(recorded: Recorded) -> dict[str, Any]:
    event = recorded.event
    assert isinstance(event, BindingChanged)
    since = {"since": moment(recorded.recorded_at_ms), "position": recorded.position}
    return {"state": event.state, "why": event.why, "addresses": list(event.addresses), **since}


def _plain_claim(recorded: Recorded) -> dict[str, Any]:
    event = recorded.event
    assert isinstance(event, AddressesClaimed)
    return {
        "claimedAt": moment(recorded.recorded_at_ms),
        "position": recorded.position,
        "node": event.endpoint.node,
        "addresses": [
            {"address": address, "pool": pool} for address, pool in _claimed_addresses(event)
        ],
        "source": event.source or None,
        "passedOver": [plain_pool_verdict(verdict) for verdict in event.passed_over],
    }


def plain_refusal(recorded: Recorded) -> dict[str, Any]:
    """A refused ADD for JSON and YAML."""
    event = recorded.event
    assert isinstance(event, AllocationRefused)
    return {
        "refusedAt": moment(recorded.recorded_at_ms),
        "position": recorded.position,
        "node": event.node,
        "interface": event.interface,
        "reason": event.reason,
        "times": event.times,
        "source": event.source or None,
        "verdicts": [plain_pool_verdict(verdict) for verdict in event.verdicts],
        "verdictsLeftOut": event.left_out,
        "error": event.message,
        "remedy": event.remedy,
    }


def plain_pool_verdict(verdict: PoolVerdict) -> dict[str, Any]:
    """A verdict for JSON and YAML, without empty fields."""
    return {name: value for name, value in verdict._asdict().items() if value != ""}
