"""Response bodies of the HTTP API (docs/reference/http-api.md).

As in Spiderpool, empty and zero members are left out, and some empty lists are null.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.domain.addresses.routes import result_routes
from core.domain.model import Endpoint, Nic
from nodeagent.coordinator.settings import UnparsedSettings

Document = dict[str, object]


def add_response(endpoint: Endpoint, *, detect_conflicts: bool, detect_gateway: bool) -> Document:
    """IpamAddResponse of an endpoint."""
    ips: list[Document] = []
    routes: list[Document] = []
    for index, nic in enumerate(endpoint.nics):
        name = nic.interface or str(index)
        for entry in _addresses(nic, name):
            entry["enableGatewayDetection"] = detect_gateway and "gateway" in entry
            entry["enableIPConflictDetection"] = detect_conflicts
            ips.append(_without_empty(entry))
        routes += [{"ifName": name, "dst": dst, "gw": gw} for dst, gw in result_routes(nic)]
    return {"ips": ips, "routes": routes or None}


def workload_endpoint(endpoint: Endpoint) -> Document:
    """WorkloadEndpointStatus of an endpoint."""
    return {
        "podNamespace": endpoint.namespace,
        "podName": endpoint.name,
        "podUID": endpoint.uid,
        "node": endpoint.node,
        "interfaces": [_interface(nic) for nic in endpoint.nics],
    }


def coordinator_config(settings: UnparsedSettings) -> Document:
    """CoordinatorConfig of settings. Empty ``overlayPodCIDR`` and ``serviceCIDR`` are kept."""
    optional = _without_empty(
        {
            "hijackCIDR": settings.hijack_cidr,
            "policyRoutes": [
                {"dst": route.dst, "gw": route.gw} for route in settings.policy_routes
            ],
            "podMACPrefix": settings.pod_mac_prefix,
            "podDefaultRouteNIC": settings.pod_default_route_nic,
            "hostRuleTable": settings.host_rule_table,
            "podRPFilter": settings.pod_rp_filter,
            "txQueueLen": settings.tx_queue_len,
            "vethLinkAddress": settings.veth_link_address,
            "vethMTU": settings.veth_mtu,
        }
    )
    return {
        "mode": settings.mode,
        "overlayPodCIDR": settings.overlay_pod_cidr,
        "serviceCIDR": settings.service_cidr,
        "tunePodRoutes": settings.tune_pod_routes,
        **optional,
    }


def _addresses(nic: Nic, name: str) -> Iterator[Document]:
    for version, address, pool, gateway in (
        (4, nic.ipv4, nic.ipv4_pool, nic.ipv4_gateway),
        (6, nic.ipv6, nic.ipv6_pool, nic.ipv6_gateway),
    ):
        if address:
            yield _without_empty(
                {
                    "version": version,
                    "address": address,
                    "nic": name,
                    "ipPool": pool,
                    "gateway": gateway,
                    "vlan": nic.vlan,
                    "mac": nic.mac,
                }
            )


def _interface(nic: Nic) -> Document:
    fields = _without_empty(
        {
            "ipv4": nic.ipv4,
            "ipv6": nic.ipv6,
            "mac": nic.mac,
            "vlan": nic.vlan,
            "ipv4Pool": nic.ipv4_pool,
            "ipv6Pool": nic.ipv6_pool,
            "ipv4Gateway": nic.ipv4_gateway,
            "ipv6Gateway": nic.ipv6_gateway,
        }
    )
    routes = [{"dst": dst, "gw": gw, "ifName": None} for dst, gw in nic.routes]
    return {"interface": nic.interface, **fields, "routes": routes or None}


def _without_empty(document: Document) -> Document:
    return {key: value for key, value in document.items() if value}
