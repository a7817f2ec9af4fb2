"""The stored form of histories."""

from __future__ import annotations

import msgspec
import pytest

from workflows.engine.store.records import decode_history, encode_event, encode_history
from workflows.model.errors import HistoryError
from workflows.model.events import HistoryEvent, TimerFired, TimerStarted

EVENTS = [HistoryEvent(1, 1_000, TimerStarted(7, 2.5)), HistoryEvent(2, 3_500, TimerFired(7))]


def test_a_history_is_stored_as_an_array_of_events() -> None:
    events = msgspec.msgpack.decode(encode_history(EVENTS))

    assert events == [msgspec.msgpack.decode(encode_event(event)) for event in EVENTS]
    assert events[0] == [1, 1_000, "TimerStarted", [7, 2.5]]
    assert decode_history(encode_history(EVENTS)) == EVENTS


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\x02\xa3abc"])
def test_decoding_bytes_that_are_not_a_history_raises_history_error(data: bytes) -> None:
    with pytest.raises(HistoryError):
        decode_history(data)


def test_decoding_an_event_of_an_unknown_type_raises_history_error() -> None:
    data = msgspec.msgpack.encode([(1, 1_000, "TimerPostponed", [7])])

    with pytest.raises(HistoryError, match=r"newer version .* 'TimerPostponed'"):
        decode_history(data)
