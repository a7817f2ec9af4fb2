"""Renders a SpiderMultusConfig as a NetworkAttachmentDefinition (NAD).

The plugins are ``ifacer?, main, rdma?, user's plugins, coordinator?, tuning?`` (``?``: optional).
A NAD equals Spiderpool's byte for byte, so that a migration changes no NAD. Spiderpool
omits only hostRPFilter and detectOptions, which our agent reads from the NAD. See
docs/reference/cni-configuration.md, "NetworkAttachmentDefinition".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from core.manifests.kinds.coordinators import CoordinatorSpec, DetectOptions
from core.manifests.kinds.multus_configs import (
    IbSriovSpec,
    IpoibSpec,
    LinkSpec,
    MultusConfigSpec,
    NetworkPools,
    OvsSpec,
    SriovSpec,
    Trunk,
    VlanSpec,
)
from core.manifests.networks.chain import chain_item
from core.manifests.networks.gojson import Json, dumps
from core.manifests.networks.network_defaults import CUSTOM_TYPE

CR_NAME: Final = "multus.spidernet.io/cr-name"
"""Annotation of a SpiderMultusConfig: the name of its NAD."""

CNI_VERSION: Final = "multus.spidernet.io/cni-version"
"""Annotation of a SpiderMultusConfig: ``cniVersion`` in its NAD."""

CONFIG_NAME: Final = "cni.spidernet.io/cniconfig-name"
"""Annotation of a SpiderMultusConfig: the ``name`` of the CNI configuration in its NAD."""

RESOURCE_NAME: Final = "k8s.v1.cni.cncf.io/resourceName"
"""Annotation of a NAD: the extended resource of its device."""

OVS_RESOURCE_PREFIX: Final = "ovs-cni.network.kubevirt.io"
CNI_VERSION_DEFAULT: Final = "0.3.1"
BOND_MASTERS_MIN: Final = 2

Plugin = dict[str, Json]


class NetworkAttachment(NamedTuple):
    """A NAD. If ``config`` is None, Multus reads the CNI configuration file with the NAD's name."""

    name: str
    annotations: dict[str, str]
    config: str | None


def attachment_name(name: str, annotations: Mapping[str, str]) -> str:
    """The name of a SpiderMultusConfig's NAD."""
    return annotations.get(CR_NAME) or name


def render(name: str, annotations: Mapping[str, str], spec: MultusConfigSpec) -> NetworkAttachment:
    """The NAD of a spec whose defaults are set. Raises BadInput if a user's plugin is malformed."""
    nad_name = attachment_name(name, annotations)
    if spec.cni_type == CUSTOM_TYPE:
        return NetworkAttachment(nad_name, dict(annotations), spec.custom_cni or None)
    config = {
        "cniVersion": annotations.get(CNI_VERSION, CNI_VERSION_DEFAULT),
        "name": annotations.get(CONFIG_NAME) or nad_name,
        "plugins": _plugins(spec),
    }
    nad_annotations = dict(annotations)
    resource = _resource(spec)
    if resource:
        nad_annotations[RESOURCE_NAME] = resource
    return NetworkAttachment(nad_name, nad_annotations, dumps(config))


def _plugins(spec: MultusConfigSpec) -> list[Json]:
    plugins = [*_plugins_of_type(spec), *map(chain_item, spec.chain_cni_json_data or ())]
    if spec.enable_coordinator and spec.coordinator is not None:
        plugins.append(_coordinator(spec.coordinator))
    if spec.cni_type == "sriov" and spec.sriov is not None and spec.sriov.mtu:
        plugins.append({"type": "tuning", "mtu": spec.sriov.mtu})
    return plugins


def _plugins_of_type(spec: MultusConfigSpec) -> list[Json]:
    match spec.cni_type:
        case "macvlan" if spec.macvlan is not None:
            ipam = _ipam(spec, spec.macvlan.ippools)
            return _link(spec.macvlan, {"type": "macvlan"}, {"mode": "bridge"}, ipam)
        case "ipvlan" if spec.ipvlan is not None:
            return _link(spec.ipvlan, {"type": "ipvlan"}, {}, _ipam(spec, spec.ipvlan.ippools))
        case "vlan" if spec.vlan is not None:
            return _vlan(spec.vlan, _ipam(spec, spec.vlan.ippools))
        case "sriov" if spec.sriov is not None:
            return _sriov(spec.sriov, _ipam(spec, spec.sriov.ippools))
        case "ib-sriov" if spec.ibsriov is not None:
            return [_ib_sriov(spec.ibsriov, _ipam(spec, spec.ibsriov.ippools))]
        case "ipoib" if spec.ipoib is not None:
            return [_ipoib(spec.ipoib, _ipam(spec, spec.ipoib.ippools))]
        case "ovs" if spec.ovs is not None:
            return [_ovs(spec.ovs, _ipam(spec, spec.ovs.ippools))]
    raise AssertionError(
        f"cniType is {spec.cni_type}, but the spec has no field with the settings of this type"
    )


def _ipam(spec: MultusConfigSpec, pools: NetworkPools | None) -> Plugin:
    if spec.disable_ipam:
        return {}
    ipam: Plugin = {"type": "spiderpool"}
    if pools is not None:
        ipam |= {"default_ipv4_ippool": pools.ipv4} if pools.ipv4 else {}
        ipam |= {"default_ipv6_ippool": pools.ipv6} if pools.ipv6 else {}
        if pools.match_master_subnet and spec.cni_type == "sriov":
            ipam["match_master_subnet"] = True
    return {"ipam": ipam}


def _link(link: LinkSpec, kind: Plugin, mode: Plugin, ipam: Plugin) -> list[Json]:
    vlan = link.vlan_id or 0
    master = master_of(link) + (f".{vlan}" if vlan else "")
    main = {**kind, "master": master, **mode, "mtu": link.mtu, **ipam}
    return [*_ifacer(link, vlan), main]


def _vlan(link: VlanSpec, ipam: Plugin) -> list[Json]:
    main: Plugin = {"type": "vlan", "master": master_of(link), "vlanMode": link.vlan_mode}
    if link.vlan_mode == "manual":
        main["vlanId"] = link.vlan_id
    return [*_ifacer(link, 0), {**main, "mtu": link.mtu, **ipam}]


def master_of(link: LinkSpec) -> str:
    """The host interface of the network: its only master, or the bond of its masters."""
    if len(link.master) >= BOND_MASTERS_MIN and link.bond is not None:
        return link.bond.name
    return link.master[0]


def _ifacer(link: LinkSpec, vlan: int) -> list[Json]:
    if not vlan and len(link.master) < BOND_MASTERS_MIN:
        return []
    ifacer: Plugin = {"vlanID": vlan} if vlan else {}
    ifacer |= {"type": "ifacer", "interfaces": link.master}
    if link.bond is not None:
        bond = link.bond
        ifacer["bond"] = {"name": bond.name, "mode": bond.mode, "options": bond.options}
    return [ifacer]


def _sriov(sriov: SriovSpec, ipam: Plugin) -> list[Json]:
    rates = {"min_tx_rate": sriov.min_tx_rate_mbps, "max_tx_rate": sriov.max_tx_rate_mbps}
    settings = {"trust": sriov.trust, "spoofchk": sriov.spoof_chk}
    non_empty_settings = {key: value for key, value in settings.items() if value}
    main = {"vlan": sriov.vlan_id, **rates, **non_empty_settings, "type": "sriov", **ipam}
    has_rdma_plugin = sriov.rdma_isolation or sriov.enable_rdma
    return [main, *([{"type": "rdma"}] if has_rdma_plugin else [])]


def _ib_sriov(ib: IbSriovSpec, ipam: Plugin) -> Plugin:
    states = {"link_state": ib.link_state, "rdmaIsolation": ib.rdma_isolation}
    kubernetes = {"ibKubernetesEnabled": bool(ib.enable_ib_kubernetes or ib.ib_kubernetes_enabled)}
    return {"type": "ib-sriov", "pkey": ib.pkey, **states, **kubernetes, **ipam}


def _ipoib(ipoib: IpoibSpec, ipam: Plugin) -> Plugin:
    return {"type": "ipoib", "master": ipoib.master, **ipam}


def _ovs(ovs: OvsSpec, ipam: Plugin) -> Plugin:
    device: Plugin = {"deviceID": ovs.device_id} if ovs.device_id else {}
    trunk: Plugin = {"trunk": [_trunk(item) for item in ovs.trunk]} if ovs.trunk else {}
    return {"vlan": ovs.vlan, "type": "ovs", "bridge": ovs.bridge, **device, **ipam, **trunk}


def _trunk(trunk: Trunk) -> Plugin:
    fields = {"minID": trunk.min_id, "maxID": trunk.max_id, "id": trunk.id}
    return {name: value for name, value in fields.items() if value is not None}


def _coordinator(spec: CoordinatorSpec) -> Plugin:
    routes = [{"dst": route.dst, "gw": route.gw} for route in spec.policy_routes or ()]
    fields: Sequence[tuple[str, Json, bool]] = (
        ("txQueueLen", spec.tx_queue_len, spec.tx_queue_len is not None),
        ("detectIPConflict", spec.detect_ip_conflict, spec.detect_ip_conflict is not None),
        ("detectGateway", spec.detect_gateway, spec.detect_gateway is not None),
        ("vethLinkAddress", spec.veth_link_address, bool(spec.veth_link_address)),
        ("vethMTU", spec.veth_mtu, spec.veth_mtu is not None),
        ("tunePodRoutes", spec.tune_pod_routes, spec.tune_pod_routes is not None),
        ("podMACPrefix", spec.pod_mac_prefix, bool(spec.pod_mac_prefix)),
        ("mode", spec.mode, bool(spec.mode)),
        ("type", "coordinator", True),
        ("podDefaultRouteNic", spec.pod_default_route_nic, bool(spec.pod_default_route_nic)),
        # Spiderpool writes podRPFilter only if podCIDRType is set.
        ("podRPFilter", spec.pod_rp_filter, spec.pod_cidr_type is not None),
        ("hostRPFilter", spec.host_rp_filter, spec.host_rp_filter is not None),
        ("detectOptions", _detect_options(spec.detect_options), spec.detect_options is not None),
        ("hijackCIDR", spec.hijack_cidr, bool(spec.hijack_cidr)),
        ("policyRoutes", routes, bool(routes)),
    )
    return {name: value for name, value, is_written in fields if is_written}


def _detect_options(options: DetectOptions | None) -> Plugin:
    if options is None:
        return {}
    fields = {"retries": options.retries, "interval": options.interval, "timeout": options.timeout}
    return {name: value for name, value in fields.items() if value is not None}


def _resource(spec: MultusConfigSpec) -> str:
    """The extended resource from which Multus takes the device; "" for none."""
    match spec.cni_type:
        case "sriov" if spec.sriov is not None:
            return spec.sriov.resource_name or ""
        case "ib-sriov" if spec.ibsriov is not None:
            return spec.ibsriov.resource_name or ""
        case "ovs" if spec.ovs is not None and spec.ovs.device_id:
            return f"{OVS_RESOURCE_PREFIX}/{spec.ovs.bridge}"
    return ""
