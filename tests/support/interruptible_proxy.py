"""A TCP proxy on loopback, which tests interrupt and restore.

Data sent during an interruption arrives afterwards, even if the sender has closed the connection.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

CHUNK_BYTES: Final = 65_536


class InterruptibleProxy:
    """A proxy to ``server``, a ``host:port``. ``held``: request bytes of the last interruption."""

    def __init__(self, server: str) -> None:
        self.held = bytearray()
        self._host, _, port = server.rpartition(":")
        self._port = int(port)
        self._forwards_requests = asyncio.Event()
        self._forwards_responses = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.restore()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def interrupt(self) -> None:
        self.interrupt_requests()
        self._forwards_responses.clear()

    def interrupt_requests(self) -> None:
        """Interrupt requests; still forward responses."""
        self.held.clear()
        self._forwards_requests.clear()

    def restore(self) -> None:
        """Restore both directions; held data is sent first."""
        self._forwards_requests.set()
        self._forwards_responses.set()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(
                self._forward(reader, to_server, self._forwards_requests, self.held),
                self._forward(from_server, writer, self._forwards_responses, bytearray()),
            )
        except OSError:
            return  # one side has closed its connection
        finally:
            writer.close()
            to_server.close()

    @staticmethod
    async def _forward(
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        forwards: asyncio.Event,
        held_data: bytearray,
    ) -> None:
        in_transit: asyncio.Queue[bytes] = asyncio.Queue()

        async def receive() -> None:
            data = b"first"
            while data:
                data = await reader.read(CHUNK_BYTES)
                if not forwards.is_set():
                    held_data.extend(data)
                in_transit.put_nowait(data)

        async def send() -> None:
            while data := await in_transit.get():
                await forwards.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        await asyncio.gather(receive(), send())
