"""The webhook server: HTTPS, one path for each kind and verb, and a health check.

See docs/reference/admission.md. The paths are those of Spiderpool, whose webhook
configurations work unchanged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from core.errors import BadInput, MalformedReview, OrbweaverError
from core.kubernetes.api_client import Api, Object
from core.manifests.kinds.fields import API_VERSION
from core.process.bodies import BodyRefused, read_decompressed_body
from core.process.connections import ConnectionCounts
from core.process.tcp_port import TcpPort
from core.projections.projector import Projector
from ops.kubernetes.admission.mutation import defaulted
from ops.kubernetes.admission.networks import (
    COORDINATOR_KIND,
    defaulted_coordinator,
    defaulted_network,
    validate_coordinator,
    validate_network,
)
from ops.kubernetes.admission.pods import POD_WEBHOOK_PATH, PodInjection
from ops.kubernetes.admission.reviews import (
    DELETE,
    AdmissionRequest,
    allowed,
    denied,
    failed,
    patch_between,
    read_request,
)
from ops.kubernetes.admission.validation import AdmissionValidator
from ops.kubernetes.certificates.served_certificate import ServedCertificate
from ops.kubernetes.settings import CertificateFiles

ANSWER_S_MAX: Final = 8.0
"""Less than the 10 s that the API server waits for the answer."""

BODY_BYTES_MAX: Final = 8 * 1024 * 1024
"""A review has two versions of an object, each of at most 1.5 MiB in etcd.

The rest is a margin: a Pod is larger as JSON than in etcd.
"""

CONNECTIONS_MAX: Final = 256

WEBHOOK_KINDS: Final = (
    "SpiderIPPool",
    "SpiderSubnet",
    "SpiderReservedIP",
    "SpiderCoordinator",
    "SpiderMultusConfig",
)
HEALTH_PATH: Final = "/webhook-health-check"

_log: Final = logging.getLogger(__name__)
Answer = Callable[[AdmissionRequest], Awaitable[bytes]]


def path_of(verb: str, kind: str) -> str:
    """The path of a webhook; ``verb``: mutate or validate."""
    return f"/{verb}-spiderpool-spidernet-io-v2beta1-{kind.lower()}"


class Admission:
    """The webhooks, which answer reviews. ``pods``: None turns the Pod webhook off.

    Defaults come from the projection, which may be older than the log.
    """

    def __init__(
        self,
        api: Api,
        projector: Projector,
        validator: AdmissionValidator,
        pods: PodInjection | None = None,
        *,
        subnets_enabled: bool = True,
    ) -> None:
        self._api = api
        self._projector = projector
        self._validator = validator
        self._pods = pods
        self._subnets_enabled = subnets_enabled

    def app(self) -> web.Application:
        """The HTTP application."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        group, _, _ = API_VERSION.partition("/")
        for kind in WEBHOOK_KINDS:
            mutate = _handler(self.mutate, kind, group)
            app.router.add_post(path_of("mutate", kind), mutate)
            validate = _handler(self.validate, kind, group)
            app.router.add_post(path_of("validate", kind), validate)
        if self._pods is not None:
            app.router.add_post(POD_WEBHOOK_PATH, _handler(self._pods.mutate, "Pod", group=""))
        app.router.add_get(HEALTH_PATH, _healthy)
        return app

    async def mutate(self, admission_request: AdmissionRequest) -> bytes:
        """Allow the request, with a patch of the defaults."""
        body = admission_request.object
        after = self._defaulted(admission_request.kind, body)
        return allowed(admission_request.uid, patch_between(body, after))

    async def validate(self, admission_request: AdmissionRequest) -> bytes:
        """Allow the request, or deny it with all causes."""
        warnings: tuple[str, ...] = ()
        if admission_request.kind == COORDINATOR_KIND:
            refusals = (
                ()
                if admission_request.operation == DELETE
                else validate_coordinator(admission_request)
            )
        elif admission_request.kind == "SpiderMultusConfig":
            is_deletion = admission_request.operation == DELETE
            refusals = () if is_deletion else await validate_network(admission_request, self._api)
        else:
            refusals = await self._validator.validate(admission_request)
            warnings = await self._validator.warnings(admission_request)
        if refusals:
            reason = "Forbidden" if admission_request.operation == DELETE else ""
            return denied(admission_request, refusals, reason=reason)
        return allowed(admission_request.uid, warnings=warnings)

    def _defaulted(self, kind: str, body: Object) -> Object:
        if kind == COORDINATOR_KIND:
            return defaulted_coordinator(body)
        if kind == "SpiderMultusConfig":
            return defaulted_network(body)
        ledger = self._projector.projection.ledger
        subnets = ledger.subnets if self._subnets_enabled else {}
        return defaulted(body, ledger.pools, subnets)


class WebhookPort:
    """The HTTPS port of the webhooks."""

    def __init__(
        self,
        admission: Admission,
        files: CertificateFiles,
        counts: ConnectionCounts | None = None,
    ) -> None:
        self._port = TcpPort(admission.app(), "webhook port", CONNECTIONS_MAX, counts)
        self._certificate = ServedCertificate(files, "webhook port")

    @property
    def port(self) -> int:
        """The port number."""
        return self._port.port

    async def open(self, address: str, port: int, setting: str) -> None:
        """Listen; address "" means all addresses, port 0 a free port. Raises BadInput.

        ``setting``: the name of the port's setting, for errors.
        """
        self._certificate.load()
        await self._port.open(address, port, setting, self._certificate.context)

    async def close(self) -> None:
        """Stop listening."""
        await self._port.close()

    async def reload_certificates(self) -> None:
        """Reload the certificate when its files change, until cancelled."""
        await self._certificate.reload_on_change()


def _handler(
    answer: Answer, kind: str, group: str
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(request: web.Request) -> web.Response:
        try:
            admission_request = read_request(
                await read_decompressed_body(request, BODY_BYTES_MAX), kind, group
            )
        except BodyRefused as refused:
            return web.Response(status=refused.status, text=refused.message)
        except MalformedReview as error:
            return _response(failed(error.uid, error.message, "BadRequest"))
        except BadInput as error:
            return web.Response(status=400, text=str(error))
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                body = await answer(admission_request)
        except (OrbweaverError, TimeoutError) as error:
            message = str(error) or (
                f"the review took longer than {ANSWER_S_MAX:g} s: check etcd and the API server"
            )
            _log.warning("%s %s: %s", admission_request.kind, admission_request.name, message)
            body = failed(admission_request.uid, message)
        except Exception as error:  # noqa: BLE001  # the API server needs an answer
            # The user sees this message; an HTTP error would show only the name of the webhook.
            _log.exception(
                "the review of %s %s failed", admission_request.kind, admission_request.name
            )
            message = f"the review failed: {type(error).__name__}. See the log of the controller."
            body = failed(admission_request.uid, message, "InternalError")
        return _response(body)

    return handler


def _response(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok")
