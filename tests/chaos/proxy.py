"""A TCP proxy between a process and an etcd member, which delays, blocks and breaks connections.

A connection is half-open if one end has vanished without notice; data from the other end is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final

CHUNK_BYTES: Final = 65_536
LINGER_NONE: Final = struct.pack("ii", 1, 0)


class Connection:
    def __init__(self, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter) -> None:
        self.to_client = to_client
        self.to_server = to_server
        self.is_half_open = False
        self.bytes_left: int | None = None
        """The next message is cut after so many bytes, and the connection reset. None: no reset."""

    def cut(self) -> None:
        for writer in (self.to_client, self.to_server):
            _reset(writer)

    def make_half_open(self) -> None:
        """Close the server's side without notice to the client."""
        self.is_half_open = True
        _reset(self.to_server)


class Link:
    """The proxy between a process and one etcd member; listens on ``port`` of loopback."""

    def __init__(self, port: int, target: str) -> None:
        self.port = port
        self._host, _, target_port = target.partition(":")
        self._target_port = int(target_port)
        self._delay_s = 0.0
        self._refuses = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.heal()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def delay(self, seconds: float) -> None:
        self._delay_s = seconds

    def stall(self) -> None:
        """Block all messages; connections stay open."""
        self._flowing.clear()

    def refuse(self) -> None:
        self._refuses = True
        self.cut()

    def heal(self) -> None:
        """End all faults, and reset half-open connections."""
        self._delay_s, self._refuses = 0.0, False
        self._flowing.set()
        for connection in tuple(self._connections):
            if connection.is_half_open:
                connection.cut()

    def cut(self) -> None:
        for connection in tuple(self._connections):
            connection.cut()

    def cut_in_message(self, after_bytes: int) -> None:
        """Reset each open connection within its next message."""
        for connection in self._connections:
            connection.bytes_left = after_bytes

    def half_open(self) -> None:
        for connection in tuple(self._connections):
            connection.make_half_open()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            _reset(writer)
            return
        try:
            from_server, to_server = await asyncio.open_connection(self._host, self._target_port)
        except OSError:
            _reset(writer)
            return
        connection = Connection(writer, to_server)
        self._connections.add(connection)
        requests = asyncio.ensure_future(
            self._forward(reader, to_server, connection, are_requests=True)
        )
        responses = asyncio.ensure_future(
            self._forward(from_server, writer, connection, are_requests=False)
        )
        try:
            await asyncio.gather(requests, responses)
        finally:
            requests.cancel()
            responses.cancel()
            self._connections.discard(connection)
            connection.cut()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: Connection,
        *,
        are_requests: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if connection.is_half_open:
                    continue
                if connection.bytes_left is not None:
                    writer.write(data[: connection.bytes_left])
                    await writer.drain()
                    break
                writer.write(data)
                await writer.drain()
        if are_requests or not connection.is_half_open:
            connection.cut()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Send a TCP reset, by a linger time of zero (socket(7))."""
    if not writer.transport.is_closing():
        connected = writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    writer.transport.abort()
