"""A fake kubelet that registers device plugins and reads their device lists.

It does not use the agent's table of messages, so that tests find errors in the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc

T = TypeVar("T")

WAIT_S = 60.0
POLL_S = 0.01


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The number and content of each protobuf field. An integer becomes its decimal digits."""
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        value, position = _read_varint(data, position)
        if tag & 7 == 0:
            yield tag >> 3, str(value).encode()
            continue
        assert tag & 7 == 2, "expected a number or a field with a length"
        yield tag >> 3, data[position : position + value]  # the value is the length
        position += value


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _encoded_varint(len(content)) + content


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _encoded_varint(value: int) -> bytes:
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def unchanged(data: bytes) -> bytes:
    """A gRPC serializer and deserializer of bytes."""
    return data


class ContainerResponse(NamedTuple):
    """The allocation for a container.

    ``files``: path in the container, path on the host, permissions.
    """

    variables: dict[str, str]
    files: list[tuple[str, ...]]


class Kubelet:
    """A kubelet that can be restarted. Each mapping has one entry for each resource.

    - ``devices``, ``unhealthy``: the devices in the plugin's last list
    - ``list_lengths``: the length of each of the plugin's lists
    - ``numa_nodes``: the NUMA node of each device
    - ``refusal``: the error text for a registration; "" accepts it
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.devices: dict[str, list[str]] = {}
        self.list_lengths: dict[str, list[int]] = {}
        self.unhealthy: dict[str, list[str]] = {}
        self.numa_nodes: dict[str, dict[str, int]] = {}
        self.registered_resources: list[str] = []
        self.refusal = ""
        self._server: grpc.aio.Server | None = None
        self._follow_tasks: set[asyncio.Task[None]] = set()
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def start(self) -> None:
        """Remove all sockets, then listen, as kubelet does."""
        self.directory.mkdir(exist_ok=True)
        for path in self.directory.iterdir():
            path.unlink()
        self._server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(self._register, unchanged, unchanged)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": method}),)
        )
        self._server.add_insecure_port(f"unix:{self.directory}/kubelet.sock")
        await self._server.start()

    async def stop(self) -> None:
        for task in self._follow_tasks:
            task.cancel()
        await asyncio.gather(*self._follow_tasks, return_exceptions=True)
        self._follow_tasks.clear()
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        self.devices.clear()

    async def until(self, condition: Callable[[], T]) -> T:
        async with asyncio.timeout(WAIT_S):
            while not (result := condition()):
                await asyncio.sleep(POLL_S)
        return result

    async def allocate(self, resource: str, *containers: list[str]) -> int:
        """Allocate devices; return the number of container responses. Raises AioRpcError."""
        return len(await self.allocate_devices(resource, *containers))

    async def allocate_devices(
        self, resource: str, *containers: list[str]
    ) -> list[ContainerResponse]:
        request = b"".join(
            field(1, b"".join(field(1, device.encode()) for device in ids)) for ids in containers
        )
        call = self._method(resource, "Allocate", "unary_unary")
        return [_container_response(content) for _, content in fields(await call(request))]

    async def options(self, resource: str) -> bytes:
        answer: bytes = await self._method(resource, "GetDevicePluginOptions", "unary_unary")(b"")
        return answer

    async def close_stream(self, resource: str) -> None:
        await self._channels.pop(resource).close()

    async def _register(self, request: bytes, context: Any) -> bytes:
        registration = dict(fields(request))
        if self.refusal:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.refusal)
        assert registration[1] == b"v1beta1"
        resource = registration[3].decode()
        self.registered_resources.append(resource)
        channel = grpc.aio.insecure_channel(f"unix:{self.directory}/{registration[2].decode()}")
        # With this key, ``stop`` also closes the channels of earlier registrations.
        self._channels[f"{resource} {len(self.registered_resources)}"] = channel
        self._channels[resource] = channel
        task = asyncio.ensure_future(self._follow(resource))
        self._follow_tasks.add(task)
        task.add_done_callback(self._follow_tasks.discard)
        return b""

    async def _follow(self, resource: str) -> None:
        call = self._method(resource, "ListAndWatch", "unary_stream")(b"")
        try:
            async for answer in call:
                device_messages = [dict(fields(device)) for _, device in fields(answer)]
                assert all(device[2] in (b"Healthy", b"Unhealthy") for device in device_messages)
                self.unhealthy[resource] = [
                    device[1].decode() for device in device_messages if device[2] == b"Unhealthy"
                ]
                self.numa_nodes[resource] = {
                    device[1].decode(): _numa_node(device[3])
                    for device in device_messages
                    if 3 in device
                }
                self.devices[resource] = [device[1].decode() for device in device_messages]
                self.list_lengths.setdefault(resource, []).append(len(device_messages))
        except grpc.aio.AioRpcError:
            pass
        finally:
            call.cancel()

    def _method(self, resource: str, name: str, kind: str) -> Any:
        multicallable = getattr(self._channels[resource], kind)
        return multicallable(
            f"/v1beta1.DevicePlugin/{name}",
            request_serializer=unchanged,
            response_deserializer=unchanged,
        )


def _container_response(container: bytes) -> ContainerResponse:
    response = ContainerResponse({}, [])
    for number, content in fields(container):
        parts = [part.decode() for _, part in sorted(fields(content))]
        if number == 1:
            response.variables[parts[0]] = parts[1]
        else:
            assert number == 3
            response.files.append(tuple(parts))
    return response


def _numa_node(topology: bytes) -> int:
    ((_, node),) = fields(topology)
    return int(dict(fields(node)).get(1, b"0"))
