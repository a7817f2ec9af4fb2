"""Reads the fields of applications, StatefulSets, VMs and IPAMClaims that decisions need. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.domain.autopools.applications import BUILT_IN, Application
from core.domain.autopools.pool_names import LABEL_PREFIX, ApplicationKey
from core.domain.fixed.fixed_address_owners import (
    IpamClaimState,
    StatefulSetState,
    VmiState,
    VmState,
)
from core.domain.model import Scale
from core.kubernetes.api_client import Object
from core.kubernetes.workloads.pods import controller_of

COLLECTION_NAMES: Final[Mapping[str, str]] = {
    "Deployment": "deployments",
    "ReplicaSet": "replicasets",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "Job": "jobs",
    "CronJob": "cronjobs",
}

_NO_ANNOTATIONS: Final[dict[str, str]] = {}


def application_of(kind: str, item: Object) -> Application:
    """The object as an application. ``kind``: of the object, because objects in a list lack it."""
    metadata = item["metadata"]
    key = ApplicationKey(BUILT_IN[kind], kind, metadata["namespace"], metadata["name"])
    spec = item.get("spec") or {}
    job_spec = (spec.get("jobTemplate") or {}).get("spec") or spec
    template = job_spec.get("template") or {}
    desired = (item.get("status") or {}).get("desiredNumberScheduled") or 0
    owner = controller_of(item)
    return Application(
        key,
        metadata["uid"],
        _our_annotations(template),
        Scale(
            spec.get("replicas"), desired, job_spec.get("completions"), job_spec.get("parallelism")
        ),
        bool((template.get("spec") or {}).get("hostNetwork")),
        (owner.api_version, owner.kind) if owner is not None else ("", ""),
    )


def _our_annotations(template: dict[str, Any]) -> dict[str, str]:
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    ours = {key: text for key, text in annotations.items() if key.startswith(LABEL_PREFIX)}
    return ours or _NO_ANNOTATIONS  # a shared empty dict saves memory


VM = "VirtualMachine"


def stateful_set_state(item: Object) -> StatefulSetState:
    """The state of a StatefulSet."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    start = (spec.get("ordinals") or {}).get("start") or 0
    return StatefulSetState(metadata["namespace"], metadata["name"], spec.get("replicas", 1), start)


def vmi_state(vmi: Object) -> VmiState:
    """The state of a VirtualMachineInstance."""
    owner = controller_of(vmi)
    return VmiState(*_name_and_deletion(vmi), of_vm=owner is not None and owner.kind == VM)


def vm_state(vm: Object) -> VmState:
    """The state of a VirtualMachine."""
    return VmState(*_name_and_deletion(vm))


def ipam_claim_state(claim: Object) -> IpamClaimState:
    """The state of an IPAMClaim."""
    return IpamClaimState(*_name_and_deletion(claim))


def _name_and_deletion(item: Object) -> tuple[str, str, bool]:
    """Namespace, name, and whether the object is being deleted."""
    metadata = item["metadata"]
    return metadata["namespace"], metadata["name"], "deletionTimestamp" in metadata
