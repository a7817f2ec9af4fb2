"""Example facts about clusters with Spiderpool; the golden files are the plans for these clusters.

``python -m tests.ops.migration.example_facts`` rewrites the golden files: review the changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from core.domain.claims.takeover import plan_takeover
from ops.migration.facts import (
    DeployedWorkload,
    Facts,
    HelmRelease,
    Network,
    TakeoverCounts,
    Webhook,
)
from ops.migration.migration_plan import plan_migration
from tests.core.manifests.spiderpool_dumps import spider_ip_pool, spiderpool_cluster

GOLDEN_FOLDER: Final = Path(__file__).with_name("golden")
SPIDERPOOL_NAMESPACE: Final = "spiderpool"
CHART_DEFAULTS: Final[Mapping[str, Any]] = {
    "ipam": {"enableIPv4": True, "enableIPv6": True, "spiderSubnet": {"enable": False}},
    "multus": {"enableMultusConfig": True, "multusCNI": {"install": True, "uninstall": False}},
    "sriov": {"install": False},
    "rdma": {"rdmaSharedDevicePlugin": {"install": False}},
    "spiderpoolAgent": {"tuneSysctlConfig": True},
}
REGISTRY: Final = "registry.example.com/mirror"
AGENT_WORKLOAD: Final = DeployedWorkload(
    kind="DaemonSet",
    namespace=SPIDERPOOL_NAMESPACE,
    name="spiderpool-agent",
    containers={"spiderpool-agent": f"{REGISTRY}/spiderpool-agent:v1.0.5"},
    service_account="spiderpool-agent",
    desired=2,
    ready=2,
)
CONTROLLER_WORKLOAD: Final = DeployedWorkload(
    kind="Deployment",
    namespace=SPIDERPOOL_NAMESPACE,
    name="spiderpool-controller",
    containers={"spiderpool-controller": f"{REGISTRY}/spiderpool-controller@sha256:{'0' * 64}"},
    service_account="spiderpool-controller",
    desired=1,
    ready=1,
)
MULTUS_CONTAINER: Final = {"multus-cni": f"{REGISTRY}/spiderpool-agent:v1.0.5"}
SMALL_CLUSTER: Final = Facts(
    server=(1, 34),
    release=HelmRelease(
        name="spiderpool",
        namespace=SPIDERPOOL_NAMESPACE,
        revision=3,
        status="deployed",
        chart_version="1.0.5",
        values={"ipam": {"enableIPv6": False}, "multus": {"multusCNI": {"install": False}}},
        defaults=CHART_DEFAULTS,
    ),
    workloads=(AGENT_WORKLOAD, CONTROLLER_WORKLOAD),
    networks=(
        Network("kube-system", "lan", plugins=("macvlan", "coordinator"), ipam="spiderpool"),
    ),
    webhooks=(
        Webhook(
            kind="ValidatingWebhookConfiguration",
            name="spiderpool-controller",
            service=f"{SPIDERPOOL_NAMESPACE}/spiderpool-controller",
        ),
    ),
    definitions=("spiderippools.spiderpool.spidernet.io",),
    data=TakeoverCounts(pools=2, subnets=0, reservations=1, endpoints=11, addresses=12),
    network_configs=1,
)


def release_with_values(**values: Any) -> HelmRelease:
    assert SMALL_CLUSTER.release is not None
    return SMALL_CLUSTER.release._replace(values=values)


def facts_with_multus() -> Facts:
    """Multus runs in the agents' Pods; the ``preStop`` hook removes the files of Multus."""
    agent = AGENT_WORKLOAD._replace(
        containers={**AGENT_WORKLOAD.containers, **MULTUS_CONTAINER}, stop_hooks=("multus-cni",)
    )
    multus_values = {"multusCNI": {"uninstall": True, "defaultCniCRName": "lan"}}
    return SMALL_CLUSTER._replace(
        workloads=(agent, CONTROLLER_WORKLOAD), release=release_with_values(multus=multus_values)
    )


def facts_with_devices() -> Facts:
    operator = DeployedWorkload(
        kind="Deployment",
        namespace=SPIDERPOOL_NAMESPACE,
        name="spiderpool-sriov-operator",
        containers={"operator": f"{REGISTRY}/sriov-network-operator:v1.3.0"},
        service_account="spiderpool-sriov-operator",
        desired=1,
        ready=1,
    )
    values = {"sriov": {"install": True}, "rdma": {"rdmaSharedDevicePlugin": {"install": True}}}
    return SMALL_CLUSTER._replace(
        workloads=(*SMALL_CLUSTER.workloads, operator),
        release=release_with_values(**values),
        sriov_policies=3,
    )


def facts_of_a_troubled_cluster() -> Facts:
    """A cluster that needs work before a migration."""
    release = release_with_values(
        spiderpoolController={"tls": {"method": "provided"}, "replicas": 2},
        spiderpoolAgent={"image": {"tag": "v1.0.5"}, "extraEnv": [{"name": "A", "value": "b"}]},
    )
    pool_with_record = spider_ip_pool(
        "lan", "10.6.0.0/16", "10.6.0.30", allocations={"10.6.0.30": "shop/gone uid-gone"}
    )
    takeover = plan_takeover(spiderpool_cluster(pool_with_record))
    return SMALL_CLUSTER._replace(
        server=(1, 28),
        release=release._replace(status="failed"),
        workloads=(AGENT_WORKLOAD._replace(ready=1), CONTROLLER_WORKLOAD),
        data=SMALL_CLUSTER.data._replace(findings=takeover.findings),
    )


EXAMPLE_FACTS: Final = {
    "small": SMALL_CLUSTER,
    "with-multus": facts_with_multus(),
    "with-devices": facts_with_devices(),
    "in-trouble": facts_of_a_troubled_cluster(),
    "without-a-release": SMALL_CLUSTER._replace(release=None),
}


def plan_as_yaml(facts: Facts) -> str:
    plan = plan_migration(facts)
    assert plan is not None
    body = {
        "ready": plan.is_ready,
        "findings": [
            {**finding._asdict(), "deadline": str(finding.deadline)} for finding in plan.findings
        ],
        "steps": list(plan.steps),
        "values": plan.values,
    }
    return yaml.safe_dump(body, sort_keys=False, width=100, allow_unicode=True)


if __name__ == "__main__":
    for name, facts in EXAMPLE_FACTS.items():
        (GOLDEN_FOLDER / f"{name}.yaml").write_text(plan_as_yaml(facts))
