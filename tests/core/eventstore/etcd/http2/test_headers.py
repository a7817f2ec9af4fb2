"""Header blocks are encoded without a dynamic table, and decoded without state between blocks."""

from __future__ import annotations

import string
from contextlib import suppress

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.eventstore.etcd.http2 import frames
from core.eventstore.etcd.http2.frames import ErrorCode, Frame, ProtocolError
from core.eventstore.etcd.http2.headers import (
    FRAMES_OF_A_BLOCK_MAX,
    HEADER_LIST_BYTES_MAX,
    BlockAssembler,
    request_headers,
    response_headers,
)
from tests.core.eventstore.etcd.http2.server import GRPC_ANSWER, header_block

names = st.text(string.ascii_lowercase + "-", min_size=1, max_size=40)
values = st.text(string.ascii_letters + string.digits + "/=+.:", max_size=20_000)


@given(values, st.lists(st.tuples(names, values), max_size=3), st.integers(0, 10**7), st.booleans())
def test_request_headers_are_decoded_and_set_the_dynamic_table_to_size_0(
    path: str,
    metadata: list[tuple[str, str]],
    timeout_ms: int,
    secure: bool,  # not keyword-only: hypothesis passes it by position
) -> None:
    encoded = request_headers(path, "etcd:2379", tuple(metadata), timeout_ms, secure=secure)
    decoder = hpack.Decoder(max_header_list_size=1 << 20)

    pairs = [(str(name), str(value)) for name, value in decoder.decode(encoded)]

    timeout = [("grpc-timeout", f"{timeout_ms}m")] if timeout_ms else []
    assert pairs == [
        (":method", "POST"),
        (":scheme", "https" if secure else "http"),
        (":path", path),
        (":authority", "etcd:2379"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *metadata,
        *timeout,
    ]
    assert decoder.header_table_size == 0


def test_a_token_is_marked_as_never_to_be_indexed() -> None:
    encoded = request_headers("/p", "a", (("token", "secret"),), 0, secure=True)

    *_, token = hpack.Decoder().decode(encoded)

    assert isinstance(token, hpack.NeverIndexedHeaderTuple)


def test_an_answer_is_read_from_its_headers_and_trailers() -> None:
    assert response_headers(header_block(GRPC_ANSWER)) == (200, "application/grpc", None, "")
    trailers = header_block([("grpc-status", "5"), ("grpc-message", "no such%20lease%E2%80%A6")])
    assert response_headers(trailers) == (None, "", 5, "no such lease…")
    assert response_headers(header_block([("grpc-status", "x1"), (":status", "")])) == (
        None,
        "",
        None,
        "",
    )


@given(st.binary(max_size=100))
def test_any_block_is_read_or_refused(content: bytes) -> None:
    with suppress(ProtocolError):
        # A status has at most three digits.
        assert response_headers(content).grpc_status in (None, *range(1_000))


def test_a_block_that_needs_an_earlier_block_is_refused() -> None:
    encoder = hpack.Encoder()
    first, second = (encoder.encode([("grpc-message", "text")]) for _ in range(2))

    assert response_headers(first).grpc_message == "text"
    with pytest.raises(ProtocolError):
        response_headers(second)


@given(st.binary(min_size=1, max_size=500), st.lists(st.integers(1, 60), max_size=9))
def test_a_block_is_joined_from_its_parts(content: bytes, cuts: list[int]) -> None:
    parts = []
    remainder = content
    for cut in cuts:
        if len(remainder) > cut:
            parts.append(remainder[:cut])
            remainder = remainder[cut:]
    parts.append(remainder)
    blocks = BlockAssembler()
    joined = None
    for number, part in enumerate(parts):
        kind = frames.CONTINUATION if number else frames.HEADERS
        flags = frames.END_HEADERS if number == len(parts) - 1 else 0
        flags |= 0 if number else frames.END_STREAM
        assert joined is None
        joined = blocks.add(Frame(kind, flags, 3, part))

    assert joined == (3, True, content)
    assert not blocks.is_open


def test_a_block_that_exceeds_the_size_limit_is_refused() -> None:
    blocks = BlockAssembler()
    part = bytes(frames.FRAME_BYTES_MAX)
    blocks.add(Frame(frames.HEADERS, 0, 1, part))

    for _ in range(HEADER_LIST_BYTES_MAX // len(part) - 1):
        blocks.add(Frame(frames.CONTINUATION, 0, 1, part))

    with pytest.raises(ProtocolError, match=f"exceeds {HEADER_LIST_BYTES_MAX} bytes") as caught:
        blocks.add(Frame(frames.CONTINUATION, 0, 1, b"x"))

    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_empty_continuations_are_accepted_up_to_a_limit() -> None:
    blocks = BlockAssembler()
    blocks.add(Frame(frames.HEADERS, 0, 1, b"x"))
    for _ in range(FRAMES_OF_A_BLOCK_MAX - 2):
        assert blocks.add(Frame(frames.CONTINUATION, 0, 1, b"")) is None
    assert blocks.add(Frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"")) == (1, False, b"x")

    blocks.add(Frame(frames.HEADERS, 0, 3, b"x"))
    for _ in range(FRAMES_OF_A_BLOCK_MAX - 1):
        blocks.add(Frame(frames.CONTINUATION, 0, 3, b""))
    with pytest.raises(ProtocolError, match=f"exceeds {FRAMES_OF_A_BLOCK_MAX} frames") as caught:
        blocks.add(Frame(frames.CONTINUATION, 0, 3, b""))

    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_continuation_without_headers_or_of_another_stream_is_refused() -> None:
    blocks = BlockAssembler()
    with pytest.raises(ProtocolError, match="without an open header block on stream 1"):
        blocks.add(Frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"x"))
    blocks.add(Frame(frames.HEADERS, 0, 1, b"x"))
    with pytest.raises(ProtocolError):
        blocks.add(Frame(frames.CONTINUATION, frames.END_HEADERS, 3, b"x"))
