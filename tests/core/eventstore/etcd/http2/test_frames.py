"""Frames are read from pieces of any size, and invalid frames are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.eventstore.etcd.http2 import frames
from core.eventstore.etcd.http2.frames import ErrorCode, Frame, ProtocolError

any_frame = st.builds(
    Frame,
    kind=st.integers(0, 255),
    flags=st.integers(0, 255),
    stream_id=st.integers(0, frames.STREAM_ID_MAX),
    payload=st.binary(max_size=300),
)


@given(st.lists(any_frame, max_size=12), st.lists(st.integers(1, 40), max_size=60))
def test_frames_in_pieces_of_any_size_are_received_as_sent(
    sent_frames: list[Frame], cuts: list[int]
) -> None:
    stream = b"".join(frames.encode_frame(*frame) for frame in sent_frames)
    received_frames: list[Frame] = []
    remainder = b""
    for cut in [*cuts, len(stream)]:
        part, stream = stream[:cut], stream[cut:]
        complete, remainder = frames.split(remainder + part)
        received_frames += complete

    assert (received_frames, remainder) == (sent_frames, b"")


@given(st.binary(max_size=400))
def test_any_bytes_are_either_refused_or_split_into_frames_and_a_remainder(content: bytes) -> None:
    refused = False
    try:
        complete, remainder = frames.split(content)
    except ProtocolError:
        refused, complete, remainder = True, [], content
    sizes = [frames.HEADER_BYTES + len(frame.payload) for frame in complete]

    assert sum(sizes) + len(remainder) == len(content)
    assert refused or len(remainder) < frames.HEADER_BYTES + frames.FRAME_BYTES_MAX


def test_a_frame_larger_than_allowed_is_refused_before_its_payload_arrives() -> None:
    head = frames.header(frames.FRAME_BYTES_MAX + 1, frames.DATA, 0, 1)

    with pytest.raises(ProtocolError, match="a frame of 16385 bytes"):
        frames.split(head)


@given(content=st.binary(max_size=200), padding=st.integers(0, 255), has_priority=st.booleans())
def test_padding_and_priority_are_removed(
    content: bytes, padding: int, *, has_priority: bool
) -> None:
    flags = frames.PADDED | (frames.PRIORITY_FLAG if has_priority else 0)
    priority = bytes(5) if has_priority else b""
    payload = bytes([padding]) + priority + content + bytes(padding)

    assert frames.without_padding(Frame(frames.HEADERS, flags, 1, payload)) == content


@given(st.binary(max_size=40))
def test_more_padding_than_payload_is_refused(content: bytes) -> None:
    payload = bytes([len(content) + 1]) + content

    with pytest.raises(ProtocolError):
        frames.without_padding(Frame(frames.DATA, frames.PADDED, 1, payload))


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)), max_size=8))
def test_settings_are_read_as_they_were_packed(values: list[tuple[int, int]]) -> None:
    (packed,), _ = frames.split(frames.settings(values))

    assert list(frames.read_settings(packed.payload)) == values


def test_payloads_of_a_wrong_size_are_refused() -> None:
    for payload in (b"", b"\0\0\0", b"\0" * 5):
        with pytest.raises(ProtocolError):
            frames.read_number(Frame(frames.RST_STREAM, 0, 1, payload))
    with pytest.raises(ProtocolError):
        frames.read_settings(b"\0" * 5)
    with pytest.raises(ProtocolError):
        frames.read_goaway(b"\0" * 7)


@pytest.mark.parametrize("code", ErrorCode)
def test_a_reset_and_a_goaway_name_their_reason(code: ErrorCode) -> None:
    (reset, goaway), _ = frames.split(frames.rst_stream(7, code) + frames.goaway(code))

    assert (reset.stream_id, frames.read_number(reset)) == (7, code)
    assert frames.read_goaway(goaway.payload + b"why") == (0, code, "why")
