"""The compatible HTTP API on the unix socket.

See docs/reference/http-api.md, "Agent"; bodies: docs/reference/address-assignment.md, "Request
bodies".

For callers of Spiderpool; our executables use the framed socket. Promise: status codes and
shapes of the table, bounded bodies, callers checked as at the framed door. It decides nothing.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from core.allocation.add_request import AddRequest, HasHungUp
from core.domain.events import Cause
from core.domain.facts import PodReference
from core.domain.model import Attachment
from core.domain.selection.request import SelectionRequest
from core.errors import BadInput, OrbweaverError
from core.eventstore.codec import ENDPOINT
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.process.bodies import BodyRefused
from core.process.connections import ConnectionCounts, HttpServer
from nodeagent.address_service import AddressService
from nodeagent.cni_protocol.arguments import is_name
from nodeagent.cni_protocol.call import checked_container, checked_interface
from nodeagent.cni_protocol.failures import CniFailure
from nodeagent.container_lock import require_caller
from nodeagent.gate import DEL_DEADLINE_S, READ_DEADLINE_S, Gate
from nodeagent.handlers.coordinator_handler import CoordinatorHandler
from nodeagent.handlers.delete_handler import DeleteRequest
from nodeagent.handlers.withdrawal_handler import Withdrawal, WithdrawalHandler
from nodeagent.health import AgentHealth
from nodeagent.servers.http_bodies import (
    BODY_BYTES_MAX,
    REQUIRED,
    AddArgs,
    BatchDelArgs,
    CoordinatorArgs,
    DelArgs,
    HttpRefusal,
    read_body,
)
from nodeagent.servers.http_shapes import add_response, coordinator_config, workload_endpoint
from nodeagent.servers.sockets import caller_hung_up, may_call
from nodeagent.settings.values import Settings
from nodeagent.telemetry.tracing import valid_traceparent

BASE: Final = "/v1"
SWITCHED_OFF: Final = 521
STATEFUL: Final = 522
NETWORK_UNSAID: Final = ""

CONNECTIONS_MAX: Final = 128
"""Open connections to the HTTP socket; each may hold a body of ``BODY_BYTES_MAX``."""

_STATUS: Final = {
    Withdrawal.DONE: 200,
    Withdrawal.SWITCHED_OFF: SWITCHED_OFF,
    Withdrawal.STATEFUL: STATEFUL,
}
_log: Final = logging.getLogger(__name__)


class HttpApi:
    """Serves the HTTP API."""

    def __init__(
        self,
        settings: Settings,
        store: KeyValueStore,
        keys: Keys,
        gate: Gate,
        health: AgentHealth,
        addresses: AddressService,
        withdrawal_handler: WithdrawalHandler,
        coordinator_handler: CoordinatorHandler,
    ) -> None:
        self._server: HttpServer | None = None
        self._settings = settings
        self._store = store
        self._keys = keys
        self._gate = gate
        self._health = health
        self._addresses = addresses
        self._withdrawal_handler = withdrawal_handler
        self._coordinator_handler = coordinator_handler

    async def open(
        self, listening: socket.socket, backlog: int, counts: ConnectionCounts | None = None
    ) -> None:
        """Begin to accept."""
        self._server = HttpServer(self.application(), "HTTP socket", CONNECTIONS_MAX, counts)
        await self._server.listen_on(listening, backlog)

    async def close(self) -> None:
        """Accept no more; requests under way go on."""
        if self._server is not None:
            self._server.close()

    async def end(self) -> None:
        """Drop every connection that is left."""
        if self._server is not None:
            await self._server.end()

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(
            middlewares=[_only_trusted, _in_shape], client_max_size=BODY_BYTES_MAX
        )
        app.router.add_get(f"{BASE}/ipam/healthy", self._healthy, allow_head=False)
        app.router.add_post(f"{BASE}/ipam/ip", self._add)
        app.router.add_delete(f"{BASE}/ipam/ip", self._delete)
        app.router.add_post(f"{BASE}/ipam/ips", self._add_batch)
        app.router.add_delete(f"{BASE}/ipam/ips", self._delete_batch)
        app.router.add_get(f"{BASE}/workloadendpoint", self._endpoint, allow_head=False)
        app.router.add_get(f"{BASE}/coordinator/config", self._coordinator, allow_head=False)
        for name in ("startup", "readiness", "liveness"):
            app.router.add_get(f"{BASE}/runtime/{name}", not_implemented, allow_head=False)
        return app

    async def _healthy(self, _: web.Request) -> web.Response:
        fault = await self._health.fault()
        return web.Response() if fault is None else json_text(500, str(fault))

    async def _add(self, request: web.Request) -> web.Response:
        arrived = time.perf_counter()
        args = await read_body(request, AddArgs, "ipamAddArgs")
        has_hung_up = self._admit(request)
        container = checked_container(args.container_id)
        add = AddRequest(
            _reference(args.pod_namespace, args.pod_name, args.pod_uid, args.container_id),
            Attachment(
                container,
                checked_interface(args.if_name),
                NETWORK_UNSAID,
                args.net_namespace,
            ),
            SelectionRequest(
                args.if_name,
                args.default_ipv4_pools,
                args.default_ipv6_pools,
                args.clean_gateway,
                args.match_master_subnet,
            ),
            Cause(
                self._settings.actor,
                container,
                "",
                valid_traceparent(request.headers.get("traceparent", "")),
            ),
            has_hung_up,
        )
        added = await self._addresses.serve_add(add, arrived)
        document = add_response(
            added.endpoint,
            detect_conflicts=self._settings.detect_conflicts and not added.migrating,
            detect_gateway=self._settings.detect_gateway,
        )
        return _json(200, document)

    async def _delete(self, request: web.Request) -> web.Response:
        arrived = time.perf_counter()
        args = await read_body(request, DelArgs, "ipamDelArgs")
        self._admit(request)
        order = DeleteRequest(
            _reference(args.pod_namespace, args.pod_name, args.pod_uid, args.container_id),
            Attachment(
                checked_container(args.container_id),
                args.if_name,
                NETWORK_UNSAID,
                args.net_namespace,
            ),
            request.headers.get("traceparent", ""),
        )
        await self._addresses.serve_delete(order, arrived)
        return web.Response()

    async def _add_batch(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _delete_batch(self, request: web.Request) -> web.Response:
        args = await read_body(request, BatchDelArgs, "ipamBatchDelArgs")
        self._admit(request)
        pod = _reference(args.pod_namespace, args.pod_name, args.pod_uid, args.container_id)
        with self._gate.admit(DEL_DEADLINE_S):
            how = await self._withdrawal_handler.withdraw(pod, conflict=args.conflict)
        if how is Withdrawal.DONE:
            return web.Response()
        return json_text(_STATUS[how], how.value)

    async def _endpoint(self, request: web.Request) -> web.Response:
        for name in ("podName", "podNamespace"):
            if not request.query.get(name):
                raise HttpRefusal(422, f"{name} in query is required", REQUIRED)
        namespace, name = request.query["podNamespace"], request.query["podName"]
        if is_name(namespace) and is_name(name):
            self._check_ready()
            get = Get(self._keys.endpoint(namespace, name))
            with self._gate.admit(READ_DEADLINE_S):
                found = await self._store.read([get])
            kvs = found.ranges[0].kvs
            if kvs:
                return _json(200, workload_endpoint(ENDPOINT.decode(kvs[0].value)))
        return json_text(404, f"SpiderEndpoint not found for pod {namespace}/{name}")

    async def _coordinator(self, request: web.Request) -> web.Response:
        args = await read_body(request, CoordinatorArgs, "getCoordinatorConfig")
        self._check_ready()
        pod = _reference(args.pod_namespace, args.pod_name, "", args.pod_name)
        return _json(200, coordinator_config(await self._coordinator_handler.configuration(pod)))

    def _admit(self, request: web.Request) -> HasHungUp:
        """Before a request changes anything. Raises CallerGone, NotReady and its like."""

        def has_hung_up() -> bool:
            return caller_hung_up(request.transport)

        if self._server is not None and has_hung_up():
            self._server.counts.abandon(self._server.name)
        require_caller(has_hung_up)
        self._check_ready()
        return has_hung_up

    def _check_ready(self) -> None:
        fault = self._health.why_not_ready()
        if fault is not None:
            raise fault


@web.middleware
async def _only_trusted(request: web.Request, handler: Handler) -> web.StreamResponse:
    peer = request.transport.get_extra_info("socket") if request.transport else None
    if peer is None or not may_call(peer):
        raise web.HTTPForbidden
    return await handler(request)


@web.middleware
async def _in_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure in Spiderpool's shape."""
    try:
        return await handler(request)
    except HttpRefusal as refusal:
        return refused(refusal.status, refusal.code, refusal.message)
    except BodyRefused as error:
        return refused(error.status, error.status, error.message)
    except web.HTTPException as error:
        return _router_refusal(request, error)
    except (OrbweaverError, CniFailure) as error:
        return json_text(500, error.message)
    except Exception as error:  # noqa: BLE001  # a caller gets an answer, the log the traceback
        _log.exception("a bug in the agent")
        return json_text(500, f"{type(error).__name__}: {error}")


def _router_refusal(request: web.Request, error: web.HTTPException) -> web.Response:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ",".join(sorted(error.allowed_methods))
        text = f"method {request.method} is not allowed, but [{allowed}] are"
        return refused(405, 405, text, {"Allow": allowed})
    if error.status == 404:
        return refused(404, 404, f"path {request.path[:200]} was not found")
    return refused(error.status, error.status, error.reason)


async def not_implemented(request: web.Request) -> web.Response:
    """A path that belongs to another port."""
    return json_text(501, f"{request.method} {request.path} is not served here")


def json_text(status: int, text: str) -> web.Response:
    """A JSON string, Spiderpool's way to say what went wrong."""
    return _json(status, text)


def refused(
    status: int, code: int, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    """``{"code":…,"message":…}``."""
    return _json(status, {"code": code, "message": message}, headers)


def _json(status: int, document: object, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document),
        status=status,
        content_type="application/json",
        headers=headers,
    )


def _reference(namespace: str, name: str, uid: str, container: str) -> PodReference:
    """The Pod as this API names it: always by name.

    See docs/reference/address-assignment.md, "ADD".
    """
    if not (is_name(namespace) and is_name(name)):
        raise BadInput(f"failed to get Pod {namespace[:253]}/{name[:253]}: it has no such name")
    if uid and not is_name(uid):
        raise BadInput(f"failed to get Pod {namespace}/{name}: podUID {uid[:64]!r} is no UID")
    return PodReference(namespace, name, uid, checked_container(container))
