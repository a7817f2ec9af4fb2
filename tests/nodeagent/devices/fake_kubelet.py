"""A kubelet for device plugins: accepts registrations, connects, and follows their lists.

Messages are encoded and decoded here independently, so that the product's table of messages is not
checked against itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc

T = TypeVar("T")

PATIENCE_S = 60.0
POLL_S = 0.01


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field: a text, a message, or the digits of a number."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        length, at = _number(data, at)
        if tag & 7 == 0:
            yield tag >> 3, str(length).encode()
            continue
        assert tag & 7 == 2, "a field that has a length"
        yield tag >> 3, data[at : at + length]
        at += length


def field(number: int, content: bytes) -> bytes:
    """One field with its content."""
    return bytes([number << 3 | 2]) + _written(len(content)) + content


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _written(value: int) -> bytes:
    found = b""
    while value >= 0x80:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def plain(data: bytes) -> bytes:
    """Messages as they are on the wire."""
    return data


class Given(NamedTuple):
    """What a container gets: its variables, and path in the container, on the host, permissions."""

    variables: dict[str, str]
    files: list[tuple[str, ...]]


class Kubelet:
    """A kubelet that can be restarted; ``devices``: resource -> its current list."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.devices: dict[str, list[str]] = {}
        self.told: dict[str, list[int]] = {}
        self.ill: dict[str, list[str]] = {}
        self.numa_nodes: dict[str, dict[str, int]] = {}
        self.registered: list[str] = []
        self.refusal = ""
        self._server: grpc.aio.Server | None = None
        self._following: set[asyncio.Task[None]] = set()
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def start(self) -> None:
        """Remove all sockets, then listen, as kubelet does."""
        self.directory.mkdir(exist_ok=True)
        for one in self.directory.iterdir():
            one.unlink()
        self._server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(self._register, plain, plain)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": method}),)
        )
        self._server.add_insecure_port(f"unix:{self.directory}/kubelet.sock")
        await self._server.start()

    async def stop(self) -> None:
        """Stop, and forget all plugins."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        self._following.clear()
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        self.devices.clear()

    async def until(self, holds: Callable[[], T]) -> T:
        """Wait until the result is true, and return it."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := holds()):
                await asyncio.sleep(POLL_S)
        return found

    async def allocate(self, resource: str, *containers: list[str]) -> int:
        """Allocate slots; return the number of container responses. Raises AioRpcError."""
        return len(await self.give(resource, *containers))

    async def give(self, resource: str, *containers: list[str]) -> list[Given]:
        """Allocate devices; what each container gets. Raises AioRpcError."""
        asked = b"".join(
            field(1, b"".join(field(1, one.encode()) for one in ids)) for ids in containers
        )
        call = self._method(resource, "Allocate", "unary_unary")
        return [_given(one) for _, one in fields(await call(asked))]

    async def options(self, resource: str) -> bytes:
        """The plugin's options."""
        answer: bytes = await self._method(resource, "GetDevicePluginOptions", "unary_unary")(b"")
        return answer

    async def hang_up(self, resource: str) -> None:
        """Stop following it."""
        await self._channels.pop(resource).close()

    async def _register(self, request: bytes, context: Any) -> bytes:
        said = dict(fields(request))
        if self.refusal:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.refusal)
        assert said[1] == b"v1beta1"
        resource = said[3].decode()
        self.registered.append(resource)
        channel = grpc.aio.insecure_channel(f"unix:{self.directory}/{said[2].decode()}")
        self._channels[f"{resource} {len(self.registered)}"] = channel
        self._channels[resource] = channel
        task = asyncio.ensure_future(self._follow(resource))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return b""

    async def _follow(self, resource: str) -> None:
        call = self._method(resource, "ListAndWatch", "unary_stream")(b"")
        try:
            async for answer in call:
                listed = [dict(fields(one)) for _, one in fields(answer)]
                assert all(one[2] in (b"Healthy", b"Unhealthy") for one in listed)
                ill = [one[1].decode() for one in listed if one[2] == b"Unhealthy"]
                near = {one[1].decode(): _numa_node(one[3]) for one in listed if 3 in one}
                self.ill[resource], self.numa_nodes[resource] = ill, near
                self.devices[resource] = [one[1].decode() for one in listed]
                self.told.setdefault(resource, []).append(len(listed))
        except grpc.aio.AioRpcError:
            pass
        finally:
            call.cancel()

    def _method(self, resource: str, name: str, kind: str) -> Any:
        made = getattr(self._channels[resource], kind)
        return made(
            f"/v1beta1.DevicePlugin/{name}", request_serializer=plain, response_deserializer=plain
        )


def _given(container: bytes) -> Given:
    given = Given({}, [])
    for number, content in fields(container):
        parts = [part.decode() for _, part in sorted(fields(content))]
        if number == 1:
            given.variables[parts[0]] = parts[1]
        else:
            assert number == 3
            given.files.append(tuple(parts))
    return given


def _numa_node(topology: bytes) -> int:
    ((_, node),) = fields(topology)
    return int(dict(fields(node)).get(1, b"0"))
