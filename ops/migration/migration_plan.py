"""Plans a migration (docs/how-to/migrate-from-spiderpool.md) from facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

from core.domain.validation.common_rules import counted
from ops.migration.chart_values import dropped_values, effective_value, translate, value_at
from ops.migration.facts import (
    AGENT_IMAGE,
    CONTROLLER_IMAGE,
    MULTUS,
    OUR_AGENT_IMAGE,
    DeployedWorkload,
    Facts,
    HelmRelease,
)

SERVER_MIN: Final = (1, 31)
"""The oldest Kubernetes that the chart supports."""

GUIDE: Final = "docs/how-to/migrate-from-spiderpool.md"
SETTLED: Final = "deployed"
"""Helm's status after a successful operation."""

SRIOV_OPERATOR: Final = "sriov-network-operator"
RDMA_PLUGIN: Final = "k8s-rdma-shared-dev-plugin"


class MigrationDeadline(StrEnum):
    """When the operator must have resolved a finding; NONE: never.

    The switch stops Spiderpool. The removal deletes Spiderpool's Helm release.
    """

    BEFORE_SWITCH = "before the switch"
    BEFORE_REMOVAL = "before the removal"
    NONE = "to know"


class PlanFinding(NamedTuple):
    """A fact about a ``subject``. ``remedy`` is "" if the operator need not act."""

    deadline: MigrationDeadline
    subject: str
    what: str
    remedy: str = ""


class Plan(NamedTuple):
    """A migration plan. ``values``: those for Orbweaver's chart; None without a Helm release."""

    findings: tuple[PlanFinding, ...]
    steps: tuple[str, ...]
    values: dict[str, Any] | None

    def due(self, deadline: MigrationDeadline) -> list[PlanFinding]:
        """The findings of one deadline."""
        return [finding for finding in self.findings if finding.deadline == deadline]

    @property
    def is_ready(self) -> bool:
        """Whether no finding must be resolved before the switch."""
        return not self.due(MigrationDeadline.BEFORE_SWITCH)


def plan_migration(facts: Facts) -> Plan | None:
    """Make the plan; None for a cluster without Spiderpool.

    Spiderpool's CustomResourceDefinitions alone count as Spiderpool, unless Orbweaver's agents run:
    Orbweaver uses the same definitions.
    """
    agent = workload_with(facts, AGENT_IMAGE)
    is_ours = workload_with(facts, OUR_AGENT_IMAGE) is not None
    if agent is None and facts.release is None and (is_ours or not facts.definitions):
        return None
    findings = (
        *_server_findings(facts),
        *_release_findings(facts.release),
        *_multus_findings(facts, agent),
        *_agent_findings(agent),
        *_software_findings(facts),
        *_values_findings(facts.release),
        *_data_findings(facts),
    )
    values = None if facts.release is None else translate(facts.release)
    return Plan(findings, tuple(_steps(facts, agent)), values)


def workload_with(facts: Facts, image: str) -> DeployedWorkload | None:
    """The first workload that runs an image of this name."""
    return next((workload for workload in facts.workloads if workload.runs(image)), None)


def _server_findings(facts: Facts) -> Iterator[PlanFinding]:
    if facts.server < SERVER_MIN:
        version, version_min = (
            ".".join(map(str, numbers)) for numbers in (facts.server, SERVER_MIN)
        )
        what = f"is Kubernetes {version}; the chart needs {version_min} or newer"
        yield PlanFinding(
            MigrationDeadline.BEFORE_SWITCH, "API server", what, "upgrade Kubernetes first"
        )


def _release_findings(release: HelmRelease | None) -> Iterator[PlanFinding]:
    if release is None:
        yield PlanFinding(
            MigrationDeadline.NONE,
            "Helm release",
            "there is no release of the chart spiderpool, so its values are unknown",
            "write the values file by hand; remove Spiderpool with the tool that installed it",
        )
    elif release.status != SETTLED:
        yield PlanFinding(
            MigrationDeadline.BEFORE_SWITCH,
            f"Helm release {release.namespace}/{release.name}",
            f"revision {release.revision} has the status {release.status}, expected {SETTLED}",
            f"run helm rollback {release.name} -n {release.namespace} first, so that Helm shows"
            " the values of what runs",
        )


def _multus_findings(facts: Facts, agent: DeployedWorkload | None) -> Iterator[PlanFinding]:
    if agent is None:
        return
    container = multus_container(agent)
    if not container:
        return
    others = [
        workload.title
        for workload in facts.workloads
        if workload is not agent and _is_multus(workload)
    ]
    moved = f". Another Multus runs: {', '.join(others)}" if others else ""
    install = "" if others else "install the chart with orbweaver.standby=true, then "
    yield PlanFinding(
        MigrationDeadline.BEFORE_SWITCH,
        f"Multus in {agent.title}",
        f"container {container} ends when the agents end, and its kubeconfig has a token of"
        f" ServiceAccount {agent.service_account}, which is removed; without Multus no Pod of the"
        f" cluster starts{moved}",
        f'{install}remove the container from the DaemonSet: step "Move Multus" of {GUIDE}',
    )
    if container in agent.stop_hooks:
        yield PlanFinding(
            MigrationDeadline.NONE,
            f"Multus in {agent.title}",
            "multus.multusCNI.uninstall is true: when the container ends, it removes Multus'"
            " executable and configuration from the node",
            "restart the new DaemonSet of Multus after the container is removed (same step)",
        )


def multus_container(agent: DeployedWorkload) -> str:
    """The container that runs Multus in an agent's Pod; "" for none."""
    names = [name for name in agent.containers if name.startswith(MULTUS)]
    return names[0] if names else ""


def _is_multus(workload: DeployedWorkload) -> bool:
    images = workload.containers.values()
    return any("multus" in image.rpartition("/")[2] for image in images)


def _agent_findings(agent: DeployedWorkload | None) -> Iterator[PlanFinding]:
    if agent is not None and agent.ready < agent.desired:
        yield PlanFinding(
            MigrationDeadline.NONE,
            agent.title,
            f"{agent.ready} of {agent.desired} Pods are ready",
            "first check the Pods that are not ready: their nodes assign no addresses now",
        )


def _software_findings(facts: Facts) -> Iterator[PlanFinding]:
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
        workload = f"{running.title} " if running else ""
        name = f"{release.namespace}/{release.name}"
        what = f"{workload}belongs to Helm release {name} and is removed with it"
        if image == SRIOV_OPERATOR:
            yield PlanFinding(
                MigrationDeadline.NONE,
                title,
                f"{what}; its policies ({facts.sriov_policies}) are kept, and Orbweaver's agents"
                " apply them on each node where the operator's daemon has ended",
            )
            continue
        yield PlanFinding(
            MigrationDeadline.BEFORE_REMOVAL,
            title,
            what,
            "copy rdma.rdmaSharedDevicePlugin from the values of that release to those of"
            " Orbweaver's chart, so that agents offer the same devices. Upgrade Orbweaver after"
            " that release was removed: two plugins must not offer one resource",
        )


def _values_findings(release: HelmRelease | None) -> Iterator[PlanFinding]:
    if release is None:
        return
    if value_at(release.values, "spiderpoolController.tls.method") == "provided":
        yield PlanFinding(
            MigrationDeadline.NONE,
            "spiderpoolController.tls",
            "the provided certificate has the name of Spiderpool's Service",
            "nothing to do: these values are left out, and controllers issue a certificate; or"
            " provide one for orbweaver-controller.NAMESPACE.svc",
        )
    if dropped := dropped_values(release):
        yield PlanFinding(
            MigrationDeadline.NONE,
            "values",
            "`orbctl migrate values` does not print these values, because they are for Spiderpool's"
            f" own programs, or for other software: {', '.join(dropped)}",
        )


def _data_findings(facts: Facts) -> Iterator[PlanFinding]:
    for finding in facts.data.findings:  # ``done``: what the takeover does about it
        yield PlanFinding(MigrationDeadline.NONE, finding.subject, finding.what, finding.done)


def _steps(facts: Facts, agent: DeployedWorkload | None) -> Iterator[str]:
    data = facts.data
    yield (
        f"taken over: addresses {data.addresses:,}, endpoints {data.endpoints:,}, pools"
        f" {data.pools:,}, subnets {data.subnets:,}, reservations {data.reservations:,}"
    )
    if agent is not None:
        nodes = counted(agent.desired, "node")
        yield f"{agent.title} stops on {nodes}; from then on ADD and DEL fail"
    controller = workload_with(facts, CONTROLLER_IMAGE)
    if controller is not None:
        yield f"{controller.title} is scaled to 0"
    for webhook in facts.webhooks:
        yield f"{webhook.kind} {webhook.name} is replaced by one of the same name"
    if facts.definitions:
        yield f"CustomResourceDefinitions updated: {len(facts.definitions)}; all objects are kept"
    ours = [network for network in facts.networks if network.ipam == "spiderpool"]
    yield (
        f"unchanged: NetworkAttachmentDefinitions {len(facts.networks)} ({len(ours)} with IPAM"
        f" spiderpool), SpiderMultusConfigs {facts.network_configs}"
    )
    if agent is not None:
        yield "Orbweaver's agents start on these nodes; ADD and DEL work again"
