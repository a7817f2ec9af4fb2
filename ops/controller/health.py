"""The health checks of a controller, at ``/livez`` and ``/readyz``.

Spiderpool's health paths return the same checks; the other paths of its API return 501
(docs/reference/http-api.md, "Controller").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from aiohttp import web

from core.domain.validation.common_rules import counted
from core.errors import NotReady, OrbweaverError
from core.eventstore.election import Election
from core.process.connections import ConnectionCounts
from core.process.supervision import HealthCheck
from core.process.tcp_port import HEALTH_CONNECTIONS_MAX, TcpPort, checks_response
from core.projections.projector import Projector
from ops.controller.observer import ControllerObserver
from ops.kubernetes.watches.cluster_watch import ClusterWatch
from workflows.jobs.job_host import JobHost

if TYPE_CHECKING:
    from ops.kubernetes.admission.admission_host import AdmissionHost

LAG_S_MAX: Final = 30.0
"""A replica that lags more is not ready."""

RUNTIME_PATH: Final = "/v1/runtime"

SUBSTITUTE_COMMANDS: Final = {
    ("PUT", "/v1/ipam/ip"): "spiderpoolctl ip set",
    ("POST", "/v1/ipam/gc_ips"): "orbctl gc",
    ("GET", "/v1/ipam/status"): "orbctl status",
}
"""Unimplemented path of Spiderpool's API -> the command to use instead."""


class ControllerHealth:
    """The health checks of one replica."""

    def __init__(
        self,
        projector: Projector,
        observer: ControllerObserver,
        jobs: JobHost,
        election: Election,
        cluster: ClusterWatch | None = None,
        admission: AdmissionHost | None = None,
        *,
        supervised: Callable[[], Sequence[HealthCheck]] = tuple,
    ) -> None:
        self._supervised = supervised
        self._projector = projector
        self._observer = observer
        self._jobs = jobs
        self._election = election
        self._cluster = cluster
        self._admission = admission
        self.stopping = False

    def live(self) -> list[HealthCheck]:
        """The checks whose failure requires a restart."""
        return [HealthCheck("running", self._stopping_fault())]

    def ready(self) -> list[HealthCheck]:
        """The checks whose failure makes the replica not ready."""
        checks = [
            HealthCheck("running", self._stopping_fault()),
            HealthCheck("etcd", self._observer.fault),
            HealthCheck("projection", self._projection_fault()),
            HealthCheck("leader", self._leader_fault()),
            HealthCheck("jobs", self._jobs_fault()),
            HealthCheck("news", self._listener_fault()),  # published: keep this name
        ]
        if self._cluster is not None:
            checks.append(HealthCheck("cluster", self._cluster_fault()))
        if self._admission is not None:
            checks.append(HealthCheck("webhooks", self._webhook_fault()))
        tasks = [HealthCheck(f"task/{task.name}", task.fault) for task in self._supervised()]
        return checks + tasks

    def _stopping_fault(self) -> OrbweaverError | None:
        return NotReady("the controller is shutting down") if self.stopping else None

    def _projection_fault(self) -> OrbweaverError | None:
        lag = self._observer.lag
        if not self._projector.ready:
            return NotReady(
                "this replica has not yet read the log to its end",
                remedy="wait; if this lasts longer than a minute, check etcd",
            )
        if lag.seconds > LAG_S_MAX:
            return NotReady(
                f"this replica is {counted(lag.segments, 'segment')} behind the log",
                remedy="check etcd, and the CPU that this replica gets",
            )
        return None

    def _leader_fault(self) -> OrbweaverError | None:
        if self._observer.leader is not None:
            return None
        return NotReady(
            "no leader elected", remedy="wait until the lease of the last leader expires"
        )

    def _jobs_fault(self) -> OrbweaverError | None:
        if self._jobs.worker.is_working:
            return None
        why = "the workflow worker does not own its share of the shards of executions"
        return NotReady(why, remedy="check etcd, and the log of this controller")

    def _listener_fault(self) -> OrbweaverError | None:
        is_leader = self._election.term is not None
        if not is_leader or self._jobs.listener.listening or not self._jobs.reclaims:
            return None
        return NotReady(
            "the leader does not receive changes of Pods from the API server",
            remedy="check the API server; meanwhile addresses are reclaimed by the periodic scan",
        )

    def _cluster_fault(self) -> OrbweaverError | None:
        assert self._cluster is not None, "call this only with a cluster watch"
        fault = self._cluster.facts.fault if self._jobs.reclaims else ""
        effect = "no address is reclaimed"
        if not fault and self._election.term is not None and self._jobs.makes_pools:
            fault = self._cluster.applications.fault
            effect = "no automatic pool is created or changed"
        if not fault:
            return None
        remedy = f"check the controller's rights to list and watch; meanwhile {effect}"
        return NotReady(fault, remedy=remedy)

    def _webhook_fault(self) -> OrbweaverError | None:
        assert self._admission is not None, "call this only with webhooks"
        if self._admission.port is not None:
            return None
        return NotReady(
            "the webhooks are not served yet", remedy="see the log of this controller for the cause"
        )


def health_port(health: ControllerHealth, counts: ConnectionCounts | None = None) -> TcpPort:
    """The port of kubelet's probes."""

    async def live(_: web.Request) -> web.Response:
        return checks_response("livez", health.live())

    async def ready(_: web.Request) -> web.Response:
        return checks_response("readyz", health.ready())

    app = web.Application()
    for path, handler in (
        ("/livez", live),
        ("/readyz", ready),
        (f"{RUNTIME_PATH}/liveness", live),
        (f"{RUNTIME_PATH}/readiness", ready),
        (f"{RUNTIME_PATH}/startup", live),
    ):
        app.router.add_get(path, handler)
    for method, path in SUBSTITUTE_COMMANDS:
        app.router.add_route(method, path, not_implemented)
    return TcpPort(app, "health port", HEALTH_CONNECTIONS_MAX, counts)


async def not_implemented(request: web.Request) -> web.Response:
    """A JSON text with status 501, as in Spiderpool."""
    command = SUBSTITUTE_COMMANDS[request.method, request.path]
    text = f"{request.method} {request.path} is not implemented: use `{command}`"
    return web.json_response(text, status=501)
