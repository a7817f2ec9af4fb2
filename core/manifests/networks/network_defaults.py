"""Sets the defaults of a SpiderMultusConfig, for the mutating webhook.

See docs/reference/admission.md, "SpiderMultusConfig".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from msgspec import Struct, structs

from core.manifests.kinds.coordinators import CoordinatorSpec
from core.manifests.kinds.multus_configs import (
    CNI_TYPES,
    IbSriovSpec,
    IpoibSpec,
    LinkSpec,
    MultusConfigSpec,
    NetworkPools,
    OvsSpec,
    SriovSpec,
    VlanSpec,
)

T = TypeVar("T", bound=Struct)
InjectableBlock = LinkSpec | SriovSpec | IbSriovSpec | IpoibSpec

CUSTOM_TYPE: Final = "custom"
RDMA_INJECTION: Final = "cni.spidernet.io/rdma-resource-inject"
NETWORK_INJECTION: Final = "cni.spidernet.io/network-resource-inject"
INJECTION_ANNOTATIONS: Final = (RDMA_INJECTION, NETWORK_INJECTION)
"""The webhook copies these annotations of a network to its labels.

See docs/reference/annotations.md, "Annotations of a SpiderMultusConfig".
"""


def completed(spec: MultusConfigSpec) -> MultusConfigSpec:
    """The spec with its defaults. A spec of cniType ``custom`` loses its coordinator block."""
    kind = spec.cni_type or CUSTOM_TYPE
    changes: dict[str, Any] = {"cni_type": kind}
    if spec.chain_cni_json_data is None:
        changes["chain_cni_json_data"] = []
    if kind == CUSTOM_TYPE:
        changes |= {"enable_coordinator": False, "coordinator": None}
        changes["custom_cni"] = spec.custom_cni or ""
        return structs.replace(spec, **changes)
    changes["coordinator"] = _coordinator(spec.coordinator)
    changes |= _filled(spec, {"enable_coordinator": True, "disable_ipam": False})
    block = getattr(spec, CNI_TYPES[kind]) if kind in CNI_TYPES else None
    if block is not None:
        changes[CNI_TYPES[kind]] = _completed_block(block)
    return structs.replace(spec, **changes)


def injected_labels(annotations: Mapping[str, str]) -> dict[str, str]:
    """The labels by which the Pod webhook selects networks."""
    return {key: annotations[key] for key in INJECTION_ANNOTATIONS if key in annotations}


def _completed_block(block: Struct) -> Struct:
    match block:
        case VlanSpec():
            block = _complete(block, vlan_mode="manual", mtu=0, rdma_resource_name="")
            if block.vlan_mode == "manual":
                block = _complete(block, vlan_id=0)
            return _complete(_with_bond(block), ippools=NetworkPools())
        case LinkSpec():
            block = _complete(block, vlan_id=0, mtu=0, rdma_resource_name="")
            return _complete(_with_bond(block), ippools=NetworkPools())
        case SriovSpec():
            rates = {"min_tx_rate_mbps": 0, "max_tx_rate_mbps": 0}
            block = _complete(block, vlan_id=0, mtu=0, rdma_isolation=False, **rates)
            return _complete(block, resource_name="", ippools=NetworkPools())
        case IbSriovSpec():
            block = _complete(block, pkey="", link_state="enable", rdma_isolation=True)
            block = _complete(block, enable_ib_kubernetes=False, resource_name="")
            return _complete(block, ippools=NetworkPools())
        case OvsSpec():
            return _complete(block, vlan=0, device_id="", ippools=NetworkPools())
        case IpoibSpec():
            return _complete(block, ippools=NetworkPools())
    raise AssertionError(f"unexpected kind of network: {block!r}")


def _with_bond(block: T) -> T:
    bond = getattr(block, "bond", None)
    if bond is None:
        return block
    return structs.replace(block, bond=_complete(bond, options=""))


def _coordinator(spec: CoordinatorSpec | None) -> CoordinatorSpec:
    """As in Spiderpool, a block created here gets txQueueLen only in the next call."""
    if spec is None:
        spec = CoordinatorSpec(veth_link_address="")
    else:
        spec = _complete(spec, tx_queue_len=0)
    spec = _complete(spec, hijack_cidr=[], policy_routes=[], pod_mac_prefix="")
    spec = _complete(spec, tune_pod_routes=True, pod_default_route_nic="")
    return _complete(spec, mode="auto", pod_rp_filter=0)


def _complete(struct: T, **values: Any) -> T:  # noqa: ANN401  # fields of any type
    return structs.replace(struct, **_filled(struct, values))


def _filled(struct: Struct, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values for the fields that are None."""
    return {name: value for name, value in values.items() if getattr(struct, name) is None}
