"""Opens a span for each CNI call and HTTP request, in the trace of the caller.

Executables send the trace context in environment variables, HTTP clients in headers.
"""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from core.allocation.add_request import HasHungUp
from core.manifests.schema_errors import JSON_ERRORS
from core.process.tracing import (
    AttributeValue,
    Span,
    TraceContext,
    Tracer,
    trace_context,
)
from nodeagent.cni_protocol.cni_call import read_environment, read_pod_reference, read_traceparent
from nodeagent.cni_protocol.failures import CniFailure
from nodeagent.ifacer import ifacer_handler
from nodeagent.servers import coordinator_server
from nodeagent.servers.cni_server import PLUGIN_VARIABLE
from nodeagent.servers.framed_server import Answer, AnswerCall

IPAM_PLUGIN: Final = "spiderpool"

CHAINED_PLUGINS: Final = (coordinator_server.NAME, ifacer_handler.NAME)

SERVER_ERROR: Final = 500


class _NetworkName(msgspec.Struct):
    name: str = ""


class _ErrorObject(msgspec.Struct):
    code: int = 0
    msg: str = ""


class TracedCalls:
    """Answers CNI calls, each in a span."""

    def __init__(self, answer: AnswerCall, tracer: Tracer) -> None:
        self._answer = answer
        self._tracer = tracer

    async def answer_call(self, environment: bytes, stdin: bytes, has_hung_up: HasHungUp) -> Answer:
        """Answer in a span; without a span if the environment is invalid."""
        try:
            command, variables = read_environment(environment)
        except CniFailure:
            return await self._answer(environment, stdin, has_hung_up)
        plugin = variables.get(PLUGIN_VARIABLE, IPAM_PLUGIN)[:64]
        name = f"CNI {command} {plugin}" if plugin in CHAINED_PLUGINS else f"CNI {command}"
        attributes = _attributes(command, plugin, variables, stdin)
        with self._tracer.request(name, _trace_context_of_call(variables), attributes) as span:
            status, body = await self._answer(environment, stdin, has_hung_up)
            if status != 0:
                _mark_failed(span, body)
            return status, body


def http_spans(tracer: Tracer, untraced: str) -> Middleware:
    """A middleware that serves each request in a span, except requests for ``untraced``."""

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == untraced:
            return await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else ""
        method = request.method
        attributes = {"http.request.method": method, "http.route": route}
        with tracer.request(
            f"{method} {route}".rstrip(), _trace_context_of_request(request), attributes
        ) as span:
            response = await handler(request)
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= SERVER_ERROR:
                span.fail(str(response.status), "")
            return response

    return serve


def _trace_context_of_call(variables: dict[str, str]) -> TraceContext:
    return trace_context(
        read_traceparent(variables), variables.get("TRACESTATE", ""), variables.get("BAGGAGE", "")
    )


def _trace_context_of_request(request: web.Request) -> TraceContext:
    names = ("traceparent", "tracestate", "baggage")
    return trace_context(*(request.headers.get(name, "") for name in names))


def _attributes(
    command: str, plugin: str, variables: dict[str, str], stdin: bytes
) -> dict[str, AttributeValue]:
    attributes = {
        "cni.command": command,
        "cni.plugin": plugin,
        "cni.container_id": variables.get("CNI_CONTAINERID", ""),
        "network.interface.name": variables.get("CNI_IFNAME", ""),
    }
    try:
        attributes["cni.network.name"] = msgspec.json.decode(stdin, type=_NetworkName).name
        pod = read_pod_reference(variables.get("CNI_ARGS", ""))
    except (CniFailure, *JSON_ERRORS):
        pass  # the answer reports the error
    else:
        attributes |= {
            "k8s.namespace.name": pod.namespace,
            "k8s.pod.name": pod.name,
            "k8s.pod.uid": pod.uid,
        }
    return {name: value for name, value in attributes.items() if value}


def _mark_failed(span: Span, body: bytes) -> None:
    failure = msgspec.json.decode(body, type=_ErrorObject)
    span.fail(str(failure.code), failure.msg)
