"""A TCP proxy on loopback between a client and a server, which tests interrupt and restore.

As in an outage of a network, nothing is lost: data sent during the interruption arrive
afterwards, including those of connections that were closed meanwhile.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

CHUNK_BYTES: Final = 65_536


class Cable:
    """A proxy to the server at ``host:port``. ``held``: data that clients sent while it was cut."""

    def __init__(self, far_end: str) -> None:
        self.held = bytearray()
        self._host, _, port = far_end.rpartition(":")
        self._port = int(port)
        self._requests_pass = asyncio.Event()
        self._answers_pass = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.mend()

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
        for work in self._tasks:
            work.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def near_end(self) -> str:
        """``host:port`` for clients."""
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Interrupt both directions."""
        self.silence()
        self._answers_pass.clear()

    def silence(self) -> None:
        """Interrupt requests; answers of the server still pass."""
        self.held.clear()
        self._requests_pass.clear()

    def mend(self) -> None:
        """Restore both directions; held data are sent first."""
        self._requests_pass.set()
        self._answers_pass.set()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        work = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, requests = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(
                self._forward(reader, requests, self._requests_pass, self.held),
                self._forward(answers, writer, self._answers_pass, bytearray()),
            )
        except OSError:
            return  # one side has closed its connection
        finally:
            writer.close()
            requests.close()

    @staticmethod
    async def _forward(
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passes: asyncio.Event,
        held: bytearray,
    ) -> None:
        in_transit: asyncio.Queue[bytes] = asyncio.Queue()

        async def receive() -> None:
            data = b"first"
            while data:
                data = await reader.read(CHUNK_BYTES)
                if not passes.is_set():
                    held.extend(data)
                in_transit.put_nowait(data)

        async def send() -> None:
            while data := await in_transit.get():
                await passes.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        await asyncio.gather(receive(), send())
