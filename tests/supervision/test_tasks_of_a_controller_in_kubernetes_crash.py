"""A controller with Kubernetes and all features reports and restarts each crashed task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from core.allocation.provider_settings import ProviderSettings
from core.domain.autopools.pool_size import AutoPoolSettings
from core.eventstore.memory_store import MemoryStore
from ops.controller.controller import Controller
from ops.controller.settings import ControllerSettings, load_settings
from ops.kubernetes.settings import (
    CertificateFiles,
    CoordinatorReconcilerSettings,
    InjectionSettings,
    KubernetesSettings,
    LeaseSettings,
    SecretSettings,
    WebhookSettings,
)
from ops.kubernetes.watches.cluster_watch import watch_of
from tests.fixtures.kubernetes import API_SERVER_MISSING
from tests.supervision.crashing_supervisor import CrashingSupervisor
from tests.supervision.task_names import (
    KUBERNETES_TASKS,
    LEADER_TASKS,
    REPLICA_TASKS,
    WEBHOOK_TASKS,
)
from tests.support.deadlines import until
from tests.support.kubernetes import ApiServer, missing_programs

pytestmark = pytest.mark.skipif(bool(missing_programs()), reason=API_SERVER_MISSING)


NAMESPACE = "shop"
GROUPS = {
    "replica": REPLICA_TASKS,
    "leader": LEADER_TASKS,
    "kubernetes": KUBERNETES_TASKS,
    "webhooks": WEBHOOK_TASKS,
}
TASKS_THAT_END_THE_TERM = ("election",)


@pytest.fixture
def settings(server_with_crds: ApiServer, tmp_path: Path) -> ControllerSettings:
    variables = {
        "SPIDERPOOL_POD_NAME": "c-1",
        "ORBWEAVER_ARCHIVE_DIR": str(tmp_path / "archive"),
        "ORBWEAVER_LEASE_TTL_SECONDS": "2",
    }
    secret = SecretSettings("webhook-tls", NAMESPACE, ("localhost",), tmp_path / "tls")
    files = CertificateFiles(*secret.files)
    webhook = WebhookSettings(
        files, "127.0.0.1", port=0, injection=InjectionSettings(), secret=secret
    )
    return load_settings("/nonexistent/conf.yml", variables)._replace(
        health_port=0,
        auto_pools=AutoPoolSettings(enabled=True),
        provider=ProviderSettings("http://127.0.0.1:1"),
        kubernetes=KubernetesSettings(
            str(server_with_crds.kubeconfig),
            webhook=webhook,
            networks=True,
            ipam_claims=True,
            coordinator=CoordinatorReconcilerSettings(cni_directory=tmp_path),
            lease=LeaseSettings(NAMESPACE, duration_s=2),
        ),
    )


class RunningController(NamedTuple):
    """A running controller, with the supervisors of its tasks."""

    controller: Controller
    supervisors: dict[str, CrashingSupervisor]
    work: asyncio.Future[None]

    def faults(self) -> dict[str, str]:
        return {
            check.name: str(check.fault) for check in self.controller.health.ready() if check.fault
        }


@pytest.fixture
async def running(settings: ControllerSettings) -> AsyncIterator[RunningController]:
    supervisors = {group: CrashingSupervisor() for group in GROUPS}
    cluster = await watch_of(settings.kubernetes, settings.reclaim)
    controller = Controller(
        settings, MemoryStore(), cluster=cluster, supervisor=supervisors["replica"]
    )
    assert controller.kubernetes is not None
    assert controller.admission is not None
    controller.leader_supervisor = supervisors["leader"]
    controller.kubernetes.tasks = supervisors["kubernetes"]
    controller.admission.tasks = supervisors["webhooks"]
    stop = asyncio.Event()
    running = RunningController(
        controller, supervisors, asyncio.ensure_future(controller.run(stop))
    )
    await until(
        lambda: running.work.done() or (not running.faults() and _all_tasks_are_supervised(running))
    )
    yield running
    stop.set()
    await asyncio.wait({running.work})


def _all_tasks_are_supervised(running: RunningController) -> bool:
    return all(
        {task.name for task in running.supervisors[group].health()} >= set(names)
        for group, names in GROUPS.items()
    )


@pytest.mark.parametrize("group", GROUPS)
async def test_a_crashed_task_is_reported_and_restarted_and_the_controller_continues(
    running: RunningController, group: str
) -> None:
    supervisor, controller = running.supervisors[group], running.controller
    assert {task.name for task in supervisor.health()} == set(GROUPS[group])

    for name in GROUPS[group]:
        term, start_count = controller.election.term, supervisor.start_counts[name]
        supervisor.crash(name)
        await until(lambda name=name: f"task/{name}" in running.faults())  # type: ignore[misc]
        fault = running.faults()[f"task/{name}"]
        await until(lambda: not running.faults() and _all_tasks_are_supervised(running))

        assert f"task {name} ended: ZeroDivisionError: a bug of {name}" in fault
        assert supervisor.start_counts[name] == start_count + 1
        assert not running.work.done()
        assert name in TASKS_THAT_END_THE_TERM or controller.election.term == term, name
