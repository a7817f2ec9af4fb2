"""What a migration has to do, from facts: findings, each with its remedy and its deadline. Pure.

A finding ``BEFORE_SWITCH`` takes something from the whole cluster if Spiderpool stops before it is
dealt with; one ``BEFORE_REMOVAL`` may wait until its release is removed. The steps themselves are
those of docs/how-to/migrate-from-spiderpool.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

from ops.migration.facts import (
    AGENT_IMAGE,
    CONTROLLER_IMAGE,
    MULTUS,
    OUR_AGENT_IMAGE,
    DeployedWorkload,
    Facts,
    HelmRelease,
)
from ops.migration.values import dropped_values, effective_value, translate, value_at

SERVER_MIN: Final = (1, 31)
"""The oldest Kubernetes that the chart and its admission rules run on."""

GUIDE: Final = "docs/how-to/migrate-from-spiderpool.md"
SETTLED: Final = "deployed"
SRIOV_OPERATOR: Final = "sriov-network-operator"
RDMA_PLUGIN: Final = "k8s-rdma-shared-dev-plugin"


class MigrationDeadline(StrEnum):
    """The time by which a finding must be dealt with."""

    BEFORE_SWITCH = "before the switch"
    BEFORE_REMOVAL = "before the removal"
    NONE = "to know"


class PlanFinding(NamedTuple):
    """Something about this cluster; ``remedy``: what to do, "" for nothing."""

    deadline: MigrationDeadline
    subject: str
    what: str
    remedy: str = ""


class Plan(NamedTuple):
    """``steps``: what will happen, in order; ``values``: for our chart, None without a release."""

    findings: tuple[PlanFinding, ...]
    steps: tuple[str, ...]
    values: dict[str, Any] | None

    def due(self, deadline: MigrationDeadline) -> list[PlanFinding]:
        """The findings of one deadline."""
        return [finding for finding in self.findings if finding.deadline == deadline]

    @property
    def is_ready(self) -> bool:
        """Whether the switch can be made now."""
        return not self.due(MigrationDeadline.BEFORE_SWITCH)


def plan_migration(facts: Facts) -> Plan | None:
    """The plan; None for a cluster without Spiderpool.

    Definitions alone may be what is left of it, unless our agents run: then they are ours.
    """
    agent = workload_with(facts, AGENT_IMAGE)
    are_ours = workload_with(facts, OUR_AGENT_IMAGE) is not None
    if agent is None and facts.release is None and (are_ours or not facts.definitions):
        return None
    findings = (
        *_of_server(facts),
        *_of_release(facts.release),
        *_of_multus(facts, agent),
        *_of_agents(agent),
        *_of_software(facts),
        *_of_values(facts.release),
        *_of_data(facts),
    )
    values = None if facts.release is None else translate(facts.release)
    return Plan(findings, tuple(_steps(facts, agent)), values)


def workload_with(facts: Facts, image: str) -> DeployedWorkload | None:
    """The workload that runs an image of this name."""
    return next((workload for workload in facts.workloads if workload.runs(image)), None)


def _of_server(facts: Facts) -> Iterator[PlanFinding]:
    if facts.server < SERVER_MIN:
        now, needed = (".".join(map(str, version)) for version in (facts.server, SERVER_MIN))
        what = f"is Kubernetes {now}; the chart needs {needed} or newer"
        yield PlanFinding(
            MigrationDeadline.BEFORE_SWITCH, "API server", what, "upgrade Kubernetes first"
        )


def _of_release(release: HelmRelease | None) -> Iterator[PlanFinding]:
    if release is None:
        yield PlanFinding(
            MigrationDeadline.NONE,
            "Helm release",
            "no release of the chart spiderpool was found, so its values are unknown",
            "write the values file by hand; remove Spiderpool with what installed it",
        )
    elif release.status != SETTLED:
        yield PlanFinding(
            MigrationDeadline.BEFORE_SWITCH,
            f"Helm release {release.namespace}/{release.name}",
            f"its revision {release.revision} is {release.status}, not {SETTLED}",
            f"helm rollback {release.name} -n {release.namespace}: until then values and cluster"
            " differ",
        )


def _of_multus(facts: Facts, agent: DeployedWorkload | None) -> Iterator[PlanFinding]:
    """Multus in the agents' Pods uses their ServiceAccount and ends with them."""
    if agent is None:
        return
    inside = multus_container(agent)
    if not inside:
        return
    others = [
        workload.title
        for workload in facts.workloads
        if workload is not agent and _is_multus(workload)
    ]
    moved = f"; {', '.join(others)} runs beside it already" if others else ""
    install = "" if others else "install the chart with orbweaver.standby=true, then "
    yield PlanFinding(
        MigrationDeadline.BEFORE_SWITCH,
        f"Multus in {agent.title}",
        f"container {inside} ends with the agents, and its kubeconfig has a token of ServiceAccount"
        f" {agent.service_account}; without it no Pod of the cluster starts{moved}",
        f'{install}take the container out of the DaemonSet: step "Move Multus" of {GUIDE}',
    )
    if inside in agent.stop_hooks:
        yield PlanFinding(
            MigrationDeadline.NONE,
            f"Multus in {agent.title}",
            "multus.multusCNI.uninstall is true: as the container ends, it removes Multus'"
            " executable and configuration from the node",
            "restart the new DaemonSet of Multus after the container is out (the same step does)",
        )


def multus_container(agent: DeployedWorkload) -> str:
    """The name of the container of an agent's Pod that runs Multus; "" for none."""
    names = [name for name in agent.containers if name.startswith(MULTUS)]
    return names[0] if names else ""


def _is_multus(workload: DeployedWorkload) -> bool:
    images = workload.containers.values()
    return any("multus" in image.rpartition("/")[2] for image in images)


def _of_agents(agent: DeployedWorkload | None) -> Iterator[PlanFinding]:
    if agent is not None and agent.ready < agent.wanted:
        yield PlanFinding(
            MigrationDeadline.NONE,
            agent.title,
            f"{agent.ready} of {agent.wanted} Pods are ready",
            "look at the others first: their nodes assign no addresses even now",
        )


def _of_software(facts: Facts) -> Iterator[PlanFinding]:
    """Operators of others that the release brought, and that go with it."""
    release = facts.release
    if release is None:
        return
    for path, title, image in (
        ("sriov.install", "SR-IOV network operator", SRIOV_OPERATOR),
        ("rdma.rdmaSharedDevicePlugin.install", "RDMA shared device plugin", RDMA_PLUGIN),
    ):
        running = workload_with(facts, image)
        if not effective_value(release, path):
            continue
        where = f"{running.title} " if running else ""
        what = f"{where}belongs to Helm release {release.namespace}/{release.name} and goes with it"
        if image == SRIOV_OPERATOR:
            yield PlanFinding(
                MigrationDeadline.NONE,
                title,
                f"{what}; its {facts.sriov_policies} policies stay, and our agents carry them out"
                " on each node as soon as the operator's daemon has left it",
            )
            continue
        yield PlanFinding(
            MigrationDeadline.BEFORE_REMOVAL,
            title,
            what,
            "copy rdma.rdmaSharedDevicePlugin of its values into those of this chart, and upgrade"
            " as soon as the release is removed: agents then offer the same devices. Not earlier,"
            " because two plugins must not offer one resource",
        )


def _of_values(release: HelmRelease | None) -> Iterator[PlanFinding]:
    if release is None:
        return
    if value_at(release.values, "spiderpoolController.tls.method") == "provided":
        yield PlanFinding(
            MigrationDeadline.NONE,
            "spiderpoolController.tls",
            "the provided certificate is for the name of Spiderpool's Service",
            "left out: controllers make their own; or provide one for"
            " orbweaver-controller.NAMESPACE.svc",
        )
    if dropped := dropped_values(release):
        yield PlanFinding(
            MigrationDeadline.NONE,
            "values",
            "left out, because they name Spiderpool's programs, or software that moves by itself:"
            f" {', '.join(dropped)}",
        )


def _of_data(facts: Facts) -> Iterator[PlanFinding]:
    for finding in facts.data.findings:
        yield PlanFinding(MigrationDeadline.NONE, finding.subject, finding.what, finding.done)


def _steps(facts: Facts, agent: DeployedWorkload | None) -> Iterator[str]:
    data = facts.data
    yield (
        f"taken over: addresses {data.addresses:,}, endpoints {data.endpoints:,}, pools"
        f" {data.pools:,}, subnets {data.subnets:,}, reservations {data.reservations:,}"
    )
    if agent is not None:
        yield f"{agent.title} stops on {agent.wanted} nodes; from here ADD and DEL fail"
    controller = workload_with(facts, CONTROLLER_IMAGE)
    if controller is not None:
        yield f"{controller.title} is scaled to 0"
    for webhook in facts.webhooks:
        yield f"{webhook.kind} {webhook.name} is replaced by one of the same name"
    if facts.definitions:
        yield f"CustomResourceDefinitions updated: {len(facts.definitions)}; every object stays"
    ours = [network for network in facts.networks if network.ipam == "spiderpool"]
    yield (
        f"unchanged: NetworkAttachmentDefinitions {len(facts.networks)} ({len(ours)} with IPAM"
        f" spiderpool), SpiderMultusConfigs {facts.network_configs}"
    )
    if agent is not None:
        yield "Orbweaver's agents start on these nodes; ADD and DEL work again"
