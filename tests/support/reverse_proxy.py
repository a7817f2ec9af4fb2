"""A small reverse proxy with TLS, like an Ingress in front of one HTTP server.

A request outside the path prefix gets 404, and ``paths_outside_prefix`` records the path.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

HEAD_BYTES_MAX: Final = 64 * 1024
CHUNK_BYTES: Final = 64 * 1024
_NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class ReverseProxy:
    """Forwards ``https://127.0.0.1:PORT/PREFIX/...`` to ``http://127.0.0.1:target_port/...``."""

    def __init__(self, target_port: int, prefix: str) -> None:
        self.paths_outside_prefix: list[str] = []
        self.port = 0
        self._target_port = target_port
        self._prefix = prefix
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}{self._prefix}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def end_connections(self) -> None:
        """Cancel the tasks of all connections, and wait for them."""
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._forward(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client or the server has closed the connection
        finally:
            with suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, version = head.partition("\r\n")[0].split(" ")
        if not path.startswith(self._prefix):
            self.paths_outside_prefix.append(path)
            writer.write(_NOT_FOUND)
            return
        fields = [
            line
            for line in head.split("\r\n")[1:]
            if line and line.partition(":")[0].lower() not in {"host", "connection"}
        ]
        path = "/" + path.removeprefix(self._prefix)
        fields += [f"Host: console.internal:{self._target_port}", "Connection: close", "", ""]
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
        to_server.write("\r\n".join([f"{method} {path} {version}", *fields]).encode("latin-1"))
        body = asyncio.create_task(_copy(reader, to_server))
        try:
            await _copy(from_server, writer)
        finally:
            body.cancel()
            await asyncio.gather(body, return_exceptions=True)
            to_server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()


@asynccontextmanager
async def reverse_proxy(
    target_port: int, prefix: str, tls: ssl.SSLContext
) -> AsyncIterator[ReverseProxy]:
    proxy = ReverseProxy(target_port, prefix)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0, ssl=tls, limit=HEAD_BYTES_MAX)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end_connections()
