"""Networks and devices that are injected into Pods: step A of the Pod webhook.

See docs/reference/admission.md, "Pods".

A Pod, or its Namespace, names a label value; every network with that label is put into the Pod's
Multus annotation, and the devices of those networks into the limits of its first container.
Refuses (BadInput) what would give a Pod that cannot start. The Pod is copied, never changed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from core.domain.selection.multus import NETWORKS
from core.errors import BadInput
from core.manifests.kinds.multus_configs import (
    IbSriovSpec,
    IpoibSpec,
    LinkSpec,
    MultusConfigSpec,
    SriovSpec,
)
from core.manifests.networks.defaults import INJECTIONS
from core.manifests.networks.nad_renderer import SEVERAL

RDMA: Final = INJECTIONS[0]
INJECTED_MAX: Final = 64
"""Networks of one Pod."""

Block = LinkSpec | SriovSpec | IbSriovSpec | IpoibSpec
Plain = Mapping[str, Any]


class Injected(NamedTuple):
    """A network that may be injected into Pods, selected by its labels.

    ``nad``: what annotations call it, "" if that is its name.
    """

    namespace: str
    name: str
    labels: Mapping[str, str]
    spec: MultusConfigSpec
    nad: str = ""


def asks(pod: Plain, namespace: Plain) -> bool:
    """Whether there is anything to inject."""
    return (_requested(pod) or _requested(namespace)) is not None


def inject(pod: Plain, namespace: Plain, networks: Sequence[Injected]) -> dict[str, Any]:
    """The Pod with the networks and devices that it requests. Raises BadInput."""
    request = _requested(pod) or _requested(namespace)
    after = copy.deepcopy(dict(pod))
    if request is None:
        return after
    key, value = request
    chosen = [network for network in networks if network.labels.get(key) == value]
    if not chosen:
        raise BadInput(f"no SpiderMultusConfig has the label {key}={value}", subject=key)
    if len(chosen) > INJECTED_MAX:
        text = f"label {key}={value} selects {len(chosen)} networks"
        raise BadInput(f"{text}; a Pod can have at most {INJECTED_MAX}", subject=key)
    blocks = {f"{one.namespace}/{one.name}": _block(one, key) for one in chosen}
    names = sorted(blocks, key=lambda name: (_interface(blocks[name]), name))
    metadata = after.setdefault("metadata", {})
    metadata["annotations"] = (metadata.get("annotations") or {}) | {NETWORKS: ",".join(names)}
    _limit(after["spec"]["containers"], _devices(blocks[name] for name in names))
    return after


def _devices(blocks: Iterable[Block]) -> Mapping[str, int]:
    """Resource -> how many the networks need.

    Each network of virtual functions needs one of its own; a share of an RDMA device is for all
    networks of the Pod that name it.
    """
    numbers: dict[str, int] = {}
    for block in blocks:
        resource = _resource(block)
        if resource and (resource not in numbers or isinstance(block, SriovSpec | IbSriovSpec)):
            numbers[resource] = numbers.get(resource, 0) + 1
    return numbers


def _requested(one: Plain) -> tuple[str, str] | None:
    """The first key that the object has, with its value."""
    annotations = one.get("metadata", {}).get("annotations") or {}
    return next(((key, annotations[key]) for key in INJECTIONS if key in annotations), None)


def _block(network: Injected, key: str) -> Block:
    """The network's block, which has all that the key needs. Raises BadInput."""
    spec = network.spec
    blocks: Mapping[str, Block | None] = {
        "macvlan": spec.macvlan,
        "ipvlan": spec.ipvlan,
        "vlan": spec.vlan,
        "sriov": spec.sriov,
        "ib-sriov": spec.ibsriov,
        "ipoib": spec.ipoib,
    }
    path = f"SpiderMultusConfig {network.namespace}/{network.name}"
    block = blocks.get(spec.cni_type or "")
    if block is None:
        raise BadInput(f"{path}: cniType {spec.cni_type} cannot be injected", subject=key)
    needed = block.master if isinstance(block, IpoibSpec) else _resource(block)
    if key == RDMA and not needed:
        raise BadInput(f"{path} has no resource name", subject=key)
    if needed and not (block.ippools and (block.ippools.ipv4 or block.ippools.ipv6)):
        raise BadInput(f"{path} has no ippools", subject=key)
    return block


def _interface(block: Block) -> str:
    match block:
        case LinkSpec():
            if len(block.master) >= SEVERAL and block.bond is not None:
                return block.bond.name
            return block.master[0]
        case SriovSpec():
            return block.resource_name or ""
        case _:
            return ""


def _resource(block: Block) -> str:
    """The extended resource of the network's device, "" for none."""
    match block:
        case LinkSpec():
            return block.rdma_resource_name or ""
        case IpoibSpec():
            return ""
        case _:
            return block.resource_name or ""


def _limit(containers: list[dict[str, Any]], numbers: Mapping[str, int]) -> None:
    """The devices for the first container, except those that some container has already."""
    for name, number in numbers.items():
        limits = [(one.get("resources") or {}).get("limits") or {} for one in containers]
        if not any(name in each for each in limits):
            resources = containers[0].setdefault("resources", {})
            resources["limits"] = (resources.get("limits") or {}) | {name: str(number)}
