"""Serves Spiderpool's HTTP API on the unix socket (docs/reference/http-api.md, "Agent").

Status codes and JSON shapes are Spiderpool's. Callers are checked as on the framed socket.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Final, NamedTuple

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from core.allocation.add_request import AddRequest, HasHungUp
from core.domain.events import Cause
from core.domain.model import Attachment
from core.domain.request_facts import PodReference
from core.domain.selection.selection_request import SelectionRequest
from core.errors import BadInput, OrbweaverError
from core.eventstore.codec import ENDPOINT_CODEC
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.process.bodies import BodyRefused
from core.process.connections import ConnectionCounts, HttpServer
from core.process.tracing import current_tracer, valid_traceparent
from nodeagent.cni_protocol.cni_call import checked_container, checked_interface
from nodeagent.cni_protocol.failures import CniFailure
from nodeagent.cni_protocol.netconf import is_name
from nodeagent.handlers.add_handler import AddHandler
from nodeagent.handlers.coordinator_handler import CoordinatorHandler
from nodeagent.handlers.delete_handler import DeleteHandler, DeleteRequest
from nodeagent.handlers.withdrawal_handler import Withdrawal, WithdrawalHandler
from nodeagent.health import AgentHealth
from nodeagent.request_runner import (
    DEL_DEADLINE_S,
    READ_DEADLINE_S,
    RequestRunner,
    require_caller,
)
from nodeagent.servers.http_request_bodies import (
    BODY_BYTES_MAX,
    MISSING_MEMBER_CODE,
    AddArgs,
    BatchDelArgs,
    CoordinatorArgs,
    DelArgs,
    HttpRefusal,
    read_body,
)
from nodeagent.servers.http_response_bodies import (
    add_response,
    coordinator_config,
    workload_endpoint,
)
from nodeagent.servers.traced_calls import http_spans
from nodeagent.servers.unix_sockets import caller_hung_up, may_call
from nodeagent.settings.agent_settings import Settings

BASE_PATH: Final = "/v1"
HEALTH: Final = f"{BASE_PATH}/ipam/healthy"
"""Health probes are too frequent to be traced."""

SWITCHED_OFF_STATUS: Final = 521
STATEFUL_STATUS: Final = 522
"""Spiderpool's HTTP status codes of refused batch releases."""

NO_NETWORK: Final = ""
"""HTTP requests do not name a network."""

CONNECTIONS_MAX: Final = 128

_STATUS_BY_WITHDRAWAL: Final = {
    Withdrawal.DONE: 200,
    Withdrawal.SWITCHED_OFF: SWITCHED_OFF_STATUS,
    Withdrawal.STATEFUL: STATEFUL_STATUS,
}
"""``withdraw_endpoint`` never returns TOO_MANY."""

_log: Final = logging.getLogger(__name__)


class HttpHandlers(NamedTuple):
    """The handlers of HTTP requests."""

    add: AddHandler
    delete: DeleteHandler
    withdrawal: WithdrawalHandler
    coordinator: CoordinatorHandler


class HttpApi:
    """Serves the HTTP API."""

    def __init__(
        self,
        settings: Settings,
        store: KeyValueStore,
        keys: Keys,
        runner: RequestRunner,
        health: AgentHealth,
        handlers: HttpHandlers,
    ) -> None:
        self._server: HttpServer | None = None
        self._settings = settings
        self._store = store
        self._keys = keys
        self._runner = runner
        self._health = health
        self._handlers = handlers

    async def open(
        self, listening: socket.socket, backlog: int, counts: ConnectionCounts | None = None
    ) -> None:
        """Begin to accept."""
        self._server = HttpServer(self.application(), "HTTP socket", CONNECTIONS_MAX, counts)
        await self._server.listen_on(listening, backlog)

    async def close(self) -> None:
        """Accept no more connections; requests in progress continue."""
        if self._server is not None:
            self._server.close()

    async def end(self) -> None:
        """Close all remaining connections."""
        if self._server is not None:
            await self._server.end()

    def application(self) -> web.Application:
        """The application with its routes and middlewares."""
        tracer = current_tracer()
        middlewares: list[Middleware] = [_check_caller, _shape_errors]
        if tracer is not None:
            middlewares.insert(1, http_spans(tracer, HEALTH))
        app = web.Application(middlewares=middlewares, client_max_size=BODY_BYTES_MAX)
        app.router.add_get(HEALTH, self._get_health, allow_head=False)
        app.router.add_post(f"{BASE_PATH}/ipam/ip", self._post_ip)
        app.router.add_delete(f"{BASE_PATH}/ipam/ip", self._delete_ip)
        app.router.add_post(f"{BASE_PATH}/ipam/ips", self._post_ips)
        app.router.add_delete(f"{BASE_PATH}/ipam/ips", self._delete_ips)
        app.router.add_get(f"{BASE_PATH}/workloadendpoint", self._get_endpoint, allow_head=False)
        app.router.add_get(
            f"{BASE_PATH}/coordinator/config", self._get_coordinator, allow_head=False
        )
        for name in ("startup", "readiness", "liveness"):
            app.router.add_get(f"{BASE_PATH}/runtime/{name}", not_implemented, allow_head=False)
        return app

    async def _get_health(self, _: web.Request) -> web.Response:
        fault = await self._health.probe_fault()
        return web.Response() if fault is None else json_text(500, str(fault))

    async def _post_ip(self, request: web.Request) -> web.Response:
        arrived = time.perf_counter()
        args = await read_body(request, AddArgs, "ipamAddArgs")
        has_hung_up = self._check_request(request)
        container = checked_container(args.container_id)
        add = AddRequest(
            _reference(args.pod_namespace, args.pod_name, args.pod_uid, args.container_id),
            Attachment(
                container,
                checked_interface(args.if_name),
                NO_NETWORK,
                args.net_namespace,
            ),
            SelectionRequest(
                args.if_name,
                args.default_ipv4_pools,
                args.default_ipv6_pools,
                clean_gateway=args.clean_gateway,
                match_master_subnet=args.match_master_subnet,
            ),
            Cause(
                self._settings.actor,
                container,
                traceparent=valid_traceparent(request.headers.get("traceparent", "")),
            ),
            has_hung_up,
        )
        added = await self._handlers.add.allocate_addresses(add, arrived)
        document = add_response(
            added.endpoint,
            detect_conflicts=self._settings.detect_conflicts and not added.migrating,
            detect_gateway=self._settings.detect_gateway,
        )
        return _json(200, document)

    async def _delete_ip(self, request: web.Request) -> web.Response:
        arrived = time.perf_counter()
        args = await read_body(request, DelArgs, "ipamDelArgs")
        self._check_request(request)
        delete = DeleteRequest(
            _reference(args.pod_namespace, args.pod_name, args.pod_uid, args.container_id),
            Attachment(
                checked_container(args.container_id),
                args.if_name,
                NO_NETWORK,
                args.net_namespace,
            ),
            request.headers.get("traceparent", ""),
        )
        await self._handlers.delete.handle_delete(delete, arrived)
        return web.Response()

    async def _post_ips(self, _: web.Request) -> web.Response:
        """Do nothing: Spiderpool does nothing here either."""
        return web.Response()

    async def _delete_ips(self, request: web.Request) -> web.Response:
        args = await read_body(request, BatchDelArgs, "ipamBatchDelArgs")
        self._check_request(request)
        pod = _reference(args.pod_namespace, args.pod_name, args.pod_uid, args.container_id)
        with self._runner.admit(DEL_DEADLINE_S):
            withdrawal = await self._handlers.withdrawal.withdraw_endpoint(
                pod, conflict=args.conflict
            )
        if withdrawal is Withdrawal.DONE:
            return web.Response()
        return json_text(_STATUS_BY_WITHDRAWAL[withdrawal], withdrawal.value)

    async def _get_endpoint(self, request: web.Request) -> web.Response:
        for name in ("podName", "podNamespace"):
            if not request.query.get(name):
                raise HttpRefusal(422, f"{name} in query is required", MISSING_MEMBER_CODE)
        namespace, name = request.query["podNamespace"], request.query["podName"]
        if is_name(namespace) and is_name(name):
            self._check_ready()
            get = Get(self._keys.endpoint(namespace, name))
            with self._runner.admit(READ_DEADLINE_S):
                result = await self._store.read([get])
            kvs = result.ranges[0].kvs
            if kvs:
                return _json(200, workload_endpoint(ENDPOINT_CODEC.decode(kvs[0].value)))
        return json_text(404, f"SpiderEndpoint not found for pod {namespace}/{name}")

    async def _get_coordinator(self, request: web.Request) -> web.Response:
        args = await read_body(request, CoordinatorArgs, "getCoordinatorConfig")
        self._check_ready()
        # The request has no container id. The Pod's name replaces it.
        pod = _reference(args.pod_namespace, args.pod_name, uid="", container=args.pod_name)
        with self._runner.admit(READ_DEADLINE_S):
            settings = await self._handlers.coordinator.configuration(pod)
        return _json(200, coordinator_config(settings))

    def _check_request(self, request: web.Request) -> HasHungUp:
        """Check that the caller is still there and that the agent is ready.

        Returns a function for later checks of the caller. Raises CallerGone, or the health fault.
        """

        def has_hung_up() -> bool:
            return caller_hung_up(request.transport)

        if self._server is not None and has_hung_up():
            self._server.counts.note_abandoned(self._server.name)
        require_caller(has_hung_up)
        self._check_ready()
        return has_hung_up

    def _check_ready(self) -> None:
        fault = self._health.why_not_ready()
        if fault is not None:
            raise fault


@web.middleware
async def _check_caller(request: web.Request, handler: Handler) -> web.StreamResponse:
    peer = request.transport.get_extra_info("socket") if request.transport else None
    if peer is None or not may_call(peer):
        raise web.HTTPForbidden
    return await handler(request)


@web.middleware
async def _shape_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
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
    except Exception as error:  # noqa: BLE001  # the caller needs an answer
        _log.exception("unexpected error in an HTTP request (a bug in the agent)")
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
    """Answer 501."""
    return json_text(501, f"{request.method} {request.path} is not served here")


def json_text(status: int, text: str) -> web.Response:
    """A response with a JSON string, which is Spiderpool's form of an error text."""
    return _json(status, text)


def refused(
    status: int, code: int, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    """A response with ``{"code":…,"message":…}``."""
    return _json(status, {"code": code, "message": message}, headers)


def _json(status: int, document: object, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document),
        status=status,
        content_type="application/json",
        headers=headers,
    )


def _reference(namespace: str, name: str, uid: str, container: str) -> PodReference:
    """The Pod of a request, with checked names. Raises BadInput."""
    if not (is_name(namespace) and is_name(name)):
        text = f"failed to get Pod {namespace[:253]}/{name[:253]}: not a valid name"
        raise BadInput(text, remedy="podNamespace and podName must be DNS names")
    if uid and not is_name(uid):
        text = f"failed to get Pod {namespace}/{name}: podUID {uid[:64]!r} is not a valid UID"
        raise BadInput(text)
    return PodReference(namespace, name, uid, checked_container(container))
