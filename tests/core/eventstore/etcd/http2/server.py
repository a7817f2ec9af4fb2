"""An HTTP/2 server that a test controls frame by frame.

The server answers PING and records received frames. Header blocks have no dynamic table, as the
settings of the client require.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import hpack

from core.eventstore.etcd.http2 import frames
from core.eventstore.etcd.http2.frames import Frame

DEADLINE_S: Final = 60.0
GRPC_ANSWER: Final = ((":status", "200"), ("content-type", "application/grpc"))
OK_TRAILERS: Final = (("grpc-status", "0"), ("grpc-message", ""))


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._remainder = b""
        self.frames: list[Frame] = []
        self.answers_pings = True
        self._frames_arrived = asyncio.Event()

    def send(self, *content: bytes) -> None:
        self._writer.write(b"".join(content))

    def close(self) -> None:
        self._writer.close()

    async def wait_for(self, matches: Callable[[Frame], bool], count: int = 1) -> list[Frame]:
        """Wait for at least ``count`` matching frames; return all matching frames."""
        async with asyncio.timeout(DEADLINE_S):
            while len(matching := [frame for frame in self.frames if matches(frame)]) < count:
                self._frames_arrived.clear()
                await self._frames_arrived.wait()
        return matching

    async def requests(self, count: int = 1) -> list[int]:
        """Wait for at least ``count`` requests; return the stream IDs of all requests."""
        return [frame.stream_id for frame in await self.wait_for(of_kind(frames.HEADERS), count)]

    async def read(self) -> None:
        """Record frames until the connection ends."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._reader.readexactly(len(frames.PREFACE))
            while content := await self._reader.read(1 << 16):
                received, self._remainder = frames.split(self._remainder + content)
                for frame in received:
                    if frame.kind == frames.PING and self.answers_pings and not frame.flags:
                        self.send(frames.encode_frame(frames.PING, frames.ACK, 0, frame.payload))
                self.frames += received
                self._frames_arrived.set()


class Server:
    """A server that sends ``settings`` first on each connection."""

    def __init__(self, settings: bytes | None) -> None:
        self._settings = settings
        self.peers: list[Peer] = []
        self.target = ""
        self._peer_connected = asyncio.Event()

    async def peer(self, number: int = 0) -> Peer:
        """Wait for the connection with this number, counted from 0."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.peers) <= number:
                self._peer_connected.clear()
                await self._peer_connected.wait()
        return self.peers[number]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        if self._settings is not None:
            peer.send(self._settings)
        self.peers.append(peer)
        self._peer_connected.set()
        await peer.read()
        writer.close()


@asynccontextmanager
async def serving(
    settings: Sequence[tuple[int, int]] = (),
    *,
    first: bytes | None = b"",
    path: str = "",
    port: int = 0,
) -> AsyncIterator[Server]:
    """Run a server on the Unix socket ``path``, or on ``port`` of loopback (0: a free port).

    ``first``: bytes to send instead of the settings; empty: send the settings; None: send nothing.
    """
    server = Server(first if first != b"" else frames.settings(settings))
    if path:
        listening = await asyncio.start_unix_server(server.serve, path)
        server.target = f"unix:{path}"
    else:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", port)
        server.target = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        for peer in server.peers:
            peer.close()
        listening.close()


def of_kind(*kinds: int) -> Callable[[Frame], bool]:
    return lambda received: received.kind in kinds


def header_block(pairs: Sequence[tuple[str, str]]) -> bytes:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return encoder.encode(pairs)


def headers(
    stream: int, pairs: Sequence[tuple[str, str]] = GRPC_ANSWER, *, ends: bool = False
) -> bytes:
    flags = frames.END_HEADERS | (frames.END_STREAM if ends else 0)
    return frames.encode_frame(frames.HEADERS, flags, stream, header_block(pairs))


def data(stream: int, content: bytes, *, ends: bool = False) -> bytes:
    parts = [
        content[at : at + frames.FRAME_BYTES_MAX]
        for at in range(0, max(len(content), 1), frames.FRAME_BYTES_MAX)
    ]
    return b"".join(
        frames.encode_frame(
            frames.DATA, frames.END_STREAM if ends and part is parts[-1] else 0, stream, part
        )
        for part in parts
    )


def message(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


def answer(stream: int, content: bytes, trailers: Sequence[tuple[str, str]] = OK_TRAILERS) -> bytes:
    return headers(stream) + data(stream, message(content)) + headers(stream, trailers, ends=True)
