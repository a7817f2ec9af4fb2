"""Serves the devices of one resource to kubelet, and registers the resource at kubelet.

When kubelet starts, it forgets registrations and removes sockets. Call ``keep_registered``
periodically to restore both.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from asyncio import Event
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc

from core.domain.device_allocation import Offer
from nodeagent.devices import kubelet_api as api

REGISTER_S_MAX: Final = 10.0

WITHDRAWAL_S_MAX: Final = 2.0
"""Seconds for kubelet to receive the empty list of devices."""

PATH_BYTES_MAX: Final = 107
"""The limit of unix(7) for a socket's path."""

NAME_CHARS_MAX: Final = 40
"""Characters of the resource name in a socket's file name."""

_DIGEST_CHARS: Final = 16
_SHOWN_IDS_MAX: Final = 8


class DevicePluginCounters:
    """Counts for metrics, summed over all resources."""

    def __init__(self) -> None:
        self.registrations = 0
        self.allocations = 0
        self.refusals = 0


class FileIdentity(NamedTuple):
    """The identity of a socket file. A new file at the same path has another change time."""

    device: int
    inode: int
    changed_ns: int


class DevicePlugin:
    """The plugin of one resource."""

    def __init__(
        self, resource: str, offer: Offer, directory: Path, counts: DevicePluginCounters
    ) -> None:
        name = socket_name(resource)
        self.path = directory / name
        self._temporary = directory / f".{name}.{os.getpid()}"
        self._kubelet = directory / api.KUBELET_SOCKET
        self._resource = resource
        self._offer = offer
        self._counts = counts
        self._changed = Event()
        self._is_withdrawn = False
        self._server: grpc.aio.Server | None = None
        self._served_socket: FileIdentity | None = None
        self._registered_kubelet: FileIdentity | None = None
        self._streams = 0
        self._had_stream = False

    @property
    def is_registered(self) -> bool:
        """Whether the resource is registered at the running kubelet."""
        return self._registered_kubelet is not None

    @property
    def size(self) -> int:
        """The number of devices."""
        return self._offer.size

    def replace_offer(self, offer: Offer) -> None:
        """Replace the offered devices. kubelet gets a changed list immediately."""
        if offer != self._offer:
            self._offer = offer
            self._wake()

    async def keep_registered(self) -> str:
        """Serve and register the resource if necessary. Returns a fault, or ""."""
        if self._served_socket is None or file_identity(self.path) != self._served_socket:
            self._registered_kubelet = None
            if fault := await self._open():
                return fault
        kubelet = file_identity(self._kubelet)
        if (
            self._registered_kubelet is not None
            and kubelet == self._registered_kubelet
            and not self._has_stream_ended()
        ):
            return ""
        self._registered_kubelet = None
        if kubelet is None:
            return (
                f"there is no {self._kubelet}: start kubelet, or mount its directory device-plugins"
                " in the agent's container"
            )
        self._had_stream = False
        if fault := await self._register():
            return fault
        self._registered_kubelet = kubelet
        self._counts.registrations += 1
        return ""

    async def withdraw(self) -> None:
        """Send kubelet an empty list of devices, then stop."""
        self._is_withdrawn = True
        self._wake()
        await self._stop(WITHDRAWAL_S_MAX)

    async def close(self) -> None:
        """Stop the server. Pods keep their devices."""
        await self._stop(None)

    def _has_stream_ended(self) -> bool:
        return self._had_stream and not self._streams

    def _wake(self) -> None:
        changed, self._changed = self._changed, Event()
        changed.set()

    async def _register(self) -> str:
        request = api.registration(self._resource, self.path.name)
        async with grpc.aio.insecure_channel(f"unix:{self._kubelet}") as channel:
            register = channel.unary_unary(
                api.REGISTER,
                request_serializer=api.encoded,
                response_deserializer=api.read_nothing,
            )
            try:
                await register(request, timeout=REGISTER_S_MAX)
            except grpc.aio.AioRpcError as error:
                return f"cannot register at kubelet: {error.details()}"
        return ""

    # --------------------------------------------------------------------------------- server

    async def _open(self) -> str:
        await self._stop(None)
        if len(os.fsencode(self._temporary)) > PATH_BYTES_MAX:
            return (
                f"the path {self._temporary} is longer than {PATH_BYTES_MAX} bytes:"
                " mount kubelet's directory device-plugins at a shorter path"
            )
        if not self.path.parent.is_dir():
            return (
                f"there is no directory {self.path.parent}: mount kubelet's directory"
                " device-plugins in the agent's container"
            )
        self._server = server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self._handlers(),))
        try:
            server.add_insecure_port(f"unix:{self._temporary}")
            self._temporary.chmod(0o600)
            await server.start()
            # Renamed last, so that kubelet never connects to a server that does not answer yet.
            self._temporary.replace(self.path)
        except (OSError, RuntimeError) as error:
            await self._stop(None)
            return f"cannot serve {self.path}: {error}"
        self._served_socket = file_identity(self.path)
        return ""

    async def _stop(self, grace_s: float | None) -> None:
        """If this call is cancelled, the next call stops the server."""
        self._registered_kubelet = None
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None
        served_socket, self._served_socket = self._served_socket, None
        if served_socket is not None and file_identity(self.path) == served_socket:
            self.path.unlink(missing_ok=True)

    def _handlers(self) -> grpc.GenericRpcHandler:
        def unary(answer: Any, read: Any = api.read_nothing) -> Any:  # noqa: ANN401
            return grpc.unary_unary_rpc_method_handler(answer, read, api.encoded)

        methods = {
            "GetDevicePluginOptions": unary(self._options),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                self._list_and_watch,
                api.read_nothing,
                api.encoded,
            ),
            "Allocate": unary(self._allocate, api.read_allocation),
        }
        return grpc.method_handlers_generic_handler(api.PLUGIN_SERVICE, methods)

    async def _options(self, _: None, __: object) -> api.KubeletMessage:
        return api.options()

    async def _list_and_watch(self, _: None, __: object) -> AsyncIterator[api.KubeletMessage]:
        self._streams += 1
        self._had_stream = True
        sent_offer: Offer | None = None
        try:
            while True:
                changed, offer = self._changed, self._offer
                if self._is_withdrawn:
                    yield api.devices(())
                    return
                if offer != sent_offer:
                    yield api.devices(offer.devices())
                    sent_offer = offer
                await changed.wait()
        finally:
            self._streams -= 1

    async def _allocate(
        self, request: api.AllocateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.KubeletMessage:
        offer = self._offer
        containers = [tuple(container.devices_ids) for container in request.container_requests]
        unknown_ids = [name for names in containers for name in names if not offer.has(name)]
        if unknown_ids:
            self._counts.refusals += 1
            shown_ids = ", ".join(map(repr, unknown_ids[:_SHOWN_IDS_MAX]))
            text = f"{self._resource} has no device {shown_ids}"
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        try:
            allocations = await asyncio.to_thread(
                lambda: [offer.allocation(names) for names in containers]
            )
        except OSError as error:
            self._counts.refusals += 1
            text = f"cannot read a device of {self._resource}: {error}"
            await context.abort(grpc.StatusCode.UNAVAILABLE, text)
        self._counts.allocations += 1
        return api.allocated(allocations)


def socket_name(resource: str) -> str:
    """The file name of a resource's socket."""
    name = resource.replace("/", "_")  # unique: no domain has an underscore
    if len(name) > NAME_CHARS_MAX:
        digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARS]
        name = f"{name[: NAME_CHARS_MAX - _DIGEST_CHARS]}-{digest}"
    return f"spiderpool-{name}.sock"


def file_identity(path: Path) -> FileIdentity | None:
    """The identity of a file; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileIdentity(status.st_dev, status.st_ino, status.st_ctime_ns)
