"""A network provider whose faults a test sets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from workflows.jobs.provider.client import ALLOCATE_PATH, RELEASE_PATH, TIMEOUT_HEADER


class Fault(Enum):
    BROKEN = "status 500, not executed"
    DONE_BUT_BROKEN = "executed, status 500"
    ANSWER_LOST = "executed, the connection breaks before the answer"
    REQUEST_LOST = "not executed, the connection breaks"
    SILENT = "not executed, no answer"
    LATE = "no answer, executed by ``execute_late_requests``"
    REFUSED = "status 409, not executed"
    NONSENSE = "not executed, the answer is not JSON"
    OTHER_ADDRESS = "executed, the answer names another address"


class FakeProvider:
    """A provider on loopback, or on the socket ``listening``.

    ``bound``: address -> UID of the Pod. ``calls``: (path, body, timeout header). ``faults``: one
    fault for each of the next requests. ``lasting_fault``: the fault of every later request.
    """

    def __init__(
        self, tls: ssl.SSLContext | None = None, listening: socket.socket | None = None
    ) -> None:
        self.bound: dict[str, str] = {}
        self.calls: list[tuple[str, dict[str, Any], str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.faults: deque[Fault] = deque()
        self.lasting_fault: Fault | None = None
        self._closing = asyncio.Event()
        self._late: list[tuple[str, dict[str, Any]]] = []
        self._tls = tls
        self._listening = listening
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post(ALLOCATE_PATH, self._handle)
        app.router.add_post(RELEASE_PATH, self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        site: web.BaseSite = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        if self._listening is not None:
            site = web.SockSite(self._runner, self._listening, ssl_context=self._tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"https://localhost:{port}" if self._tls else f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        assert self._runner is not None
        await self._runner.cleanup()

    def execute_late_requests(self) -> None:
        """Execute the requests with the fault ``LATE``; a refusal reaches no client."""
        while self._late:
            with contextlib.suppress(web.HTTPConflict, web.HTTPNotFound):
                self._execute(*self._late.pop(0))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.headers.append(request.headers)
        self.calls.append((request.path, body, request.headers.get(TIMEOUT_HEADER, "")))
        fault = self.faults.popleft() if self.faults else self.lasting_fault
        match fault:
            case Fault.BROKEN:
                raise web.HTTPInternalServerError(text="broken")
            case Fault.REFUSED:
                raise web.HTTPConflict(text="no VLAN is left")
            case Fault.NONSENSE:
                return web.Response(text="<html>")
            case Fault.LATE:
                self._late.append((request.path, body))
                await self._closing.wait()
                return _break_connection(request)
            case Fault.SILENT:
                await self._closing.wait()
                return _break_connection(request)
            case Fault.REQUEST_LOST:
                return _break_connection(request)
        answer = self._execute(request.path, body)
        if fault is Fault.DONE_BUT_BROKEN:
            raise web.HTTPInternalServerError(text="broken")
        if fault is Fault.ANSWER_LOST:
            return _break_connection(request)
        if fault is Fault.OTHER_ADDRESS and request.path == ALLOCATE_PATH:
            answer["iaasIPsAllocationResponse"][0]["ipAddress"] = "192.0.2.1"
        return web.json_response(answer)

    def _execute(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        pod = {name: body[name] for name in ("podName", "podNamespace", "nodeName")}
        if path == RELEASE_PATH:
            if self.bound.pop(body["ipAddress"], None) is None:
                raise web.HTTPNotFound(text="the address is not bound")
            return pod
        items = body["iaasIPsAllocationRequest"]
        for item in items:
            owner = self.bound.setdefault(item["ipAddress"], body["podUID"])
            if owner != body["podUID"]:
                raise web.HTTPConflict(text=f"the address is bound to the Pod with UID {owner}")
        answers = [
            {**item, "macAddress": mac_of(item["ipAddress"]), "vlanId": 100} for item in items
        ]
        return {**pod, "iaasIPsAllocationResponse": answers}


def _break_connection(request: web.Request) -> web.Response:
    if request.transport is not None:  # else the client has closed the connection
        request.transport.abort()
    return web.Response()


def mac_of(address: str) -> str:
    return f"02:00:00:00:00:{int(address.rpartition('.')[2]):02x}"
