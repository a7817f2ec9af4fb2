"""Injects networks and devices into Pods: step A of the Pod webhook.

See docs/reference/admission.md, "Pods". An annotation of a Pod, or else of its Namespace, requests
all networks with a label of the same key and value. Their names replace the Pod's Multus
annotation. Their devices are added to the limits of its first container.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from core.domain.selection.multus import NETWORKS_ANNOTATION
from core.errors import BadInput
from core.manifests.kinds.multus_configs import (
    CNI_TYPES,
    IbSriovSpec,
    IpoibSpec,
    LinkSpec,
    MultusConfigSpec,
    SriovSpec,
)
from core.manifests.networks.nad_renderer import BOND_MASTERS_MIN
from core.manifests.networks.network_defaults import (
    CUSTOM_TYPE,
    INJECTION_ANNOTATIONS,
    RDMA_INJECTION,
    InjectableBlock,
)

INJECTED_MAX: Final = 64

JsonObject = Mapping[str, Any]


class InjectableNetwork(NamedTuple):
    """A network that may be injected into Pods.

    ``labels`` include copies of its injection annotations. ``nad`` is the name of its
    NetworkAttachmentDefinition; "" means ``name``.
    """

    namespace: str
    name: str
    labels: Mapping[str, str]
    spec: MultusConfigSpec
    nad: str = ""


def needs_injection(pod: JsonObject, namespace: JsonObject) -> bool:
    """Whether the Pod or its Namespace requests an injection."""
    return (_injection_request(pod) or _injection_request(namespace)) is not None


def inject(
    pod: JsonObject, namespace: JsonObject, networks: Sequence[InjectableNetwork]
) -> dict[str, Any]:
    """A copy of the Pod with the networks and devices that it requests. Raises BadInput."""
    request = _injection_request(pod) or _injection_request(namespace)
    changed_pod = copy.deepcopy(dict(pod))
    if request is None:
        return changed_pod
    key, value = request
    chosen_networks = [network for network in networks if network.labels.get(key) == value]
    if not chosen_networks:
        raise BadInput(
            f"no SpiderMultusConfig has the annotation {key}: {value}",
            subject=key,
            remedy=f"set the annotation {key} of a SpiderMultusConfig to {value}, or correct the"
            " annotation of the Pod or its Namespace",
        )
    if len(chosen_networks) > INJECTED_MAX:
        selection = f"annotation {key}: {value} selects {len(chosen_networks)} networks"
        raise BadInput(
            f"{selection}; a Pod can have at most {INJECTED_MAX}",
            subject=key,
            remedy="change the annotation of some of these SpiderMultusConfigs",
        )
    blocks = {
        f"{network.namespace}/{network.nad or network.name}": _required_block(network, key)
        for network in chosen_networks
    }
    names = sorted(blocks, key=lambda name: (_sort_key(blocks[name]), name))
    metadata = changed_pod.setdefault("metadata", {})
    metadata["annotations"] = (metadata.get("annotations") or {}) | {
        NETWORKS_ANNOTATION: ",".join(names)
    }
    _add_to_limits(
        changed_pod["spec"]["containers"], _device_counts(blocks[name] for name in names)
    )
    return changed_pod


def _device_counts(blocks: Iterable[InjectableBlock]) -> Mapping[str, int]:
    """Resource -> number of devices.

    Each SR-IOV network needs its own virtual function; other networks share a device.
    """
    counts: dict[str, int] = {}
    for block in blocks:
        resource = _resource(block)
        if resource and (resource not in counts or isinstance(block, SriovSpec | IbSriovSpec)):
            counts[resource] = counts.get(resource, 0) + 1
    return counts


def _injection_request(item: JsonObject) -> tuple[str, str] | None:
    """The first injection annotation of an object: key and value."""
    annotations = item.get("metadata", {}).get("annotations") or {}
    return next(
        ((key, annotations[key]) for key in INJECTION_ANNOTATIONS if key in annotations), None
    )


def _required_block(network: InjectableNetwork, key: str) -> InjectableBlock:
    """Raises BadInput if the block lacks a field that the annotation ``key`` requires."""
    spec = network.spec
    blocks: Mapping[str, InjectableBlock | None] = {
        "macvlan": spec.macvlan,
        "ipvlan": spec.ipvlan,
        "vlan": spec.vlan,
        "sriov": spec.sriov,
        "ib-sriov": spec.ibsriov,
        "ipoib": spec.ipoib,
    }
    path = f"SpiderMultusConfig {network.namespace}/{network.name}"
    cni_type = spec.cni_type or CUSTOM_TYPE
    if cni_type not in blocks:
        raise BadInput(
            f"{path} has cniType {cni_type}: such a network cannot be injected into a Pod",
            subject=key,
            remedy=f"remove the annotation {key} from the SpiderMultusConfig",
        )
    block = blocks[cni_type]
    if block is None:
        raise BadInput(
            f"{path} has cniType {cni_type} and no block {CNI_TYPES[cni_type]}",
            subject=key,
            remedy=f"add the block to the SpiderMultusConfig, or remove its annotation {key}",
        )
    resource = block.master if isinstance(block, IpoibSpec) else _resource(block)
    if key == RDMA_INJECTION and not resource:
        raise BadInput(
            f"{path} has no resource name, which annotation {key} requires",
            subject=key,
            remedy="set the resource name of the network's devices, or remove the annotation",
        )
    if resource and not (block.ippools and (block.ippools.ipv4 or block.ippools.ipv6)):
        raise BadInput(
            f"{path} has no ippools, which annotation {key} requires",
            subject=key,
            remedy="set ippools of the SpiderMultusConfig, or remove the annotation",
        )
    return block


def _sort_key(block: InjectableBlock) -> str:
    match block:
        case LinkSpec():
            if len(block.master) >= BOND_MASTERS_MIN and block.bond is not None:
                return block.bond.name
            return block.master[0]
        case SriovSpec():
            return block.resource_name or ""
        case _:
            return ""


def _resource(block: InjectableBlock) -> str:
    match block:
        case LinkSpec():
            return block.rdma_resource_name or ""
        case IpoibSpec():
            return ""
        case _:
            return block.resource_name or ""


def _add_to_limits(containers: list[dict[str, Any]], counts: Mapping[str, int]) -> None:
    """Add limits to the first container, except for resources that any container limits."""
    for name, count in counts.items():
        limits = [(item.get("resources") or {}).get("limits") or {} for item in containers]
        if not any(name in amounts for amounts in limits):
            resources = containers[0].setdefault("resources", {})
            resources["limits"] = (resources.get("limits") or {}) | {name: str(count)}
