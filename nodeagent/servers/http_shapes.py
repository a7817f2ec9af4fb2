"""Documents of the HTTP API: an ADD, an endpoint, the coordinator's settings.

See docs/reference/http-api.md, "Agent".

Members that are empty or zero are left out, as Spiderpool does; the lists it sends as null
are null.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.domain.addresses.routes import answer_routes
from core.domain.model import Endpoint, Nic
from nodeagent.coordinator.settings import WrittenSettings

Document = dict[str, object]


def add_response(endpoint: Endpoint, *, detect_conflicts: bool, detect_gateway: bool) -> Document:
    """IpamAddResponse: the results of all NICs of the endpoint."""
    ips: list[Document] = []
    routes: list[Document] = []
    for index, nic in enumerate(endpoint.nics):
        # An open entry of the unnamed mode is called by its index, fresh or repeated alike.
        name = nic.interface or str(index)
        for entry in _addresses(nic, name):
            entry["enableGatewayDetection"] = detect_gateway and "gateway" in entry
            entry["enableIPConflictDetection"] = detect_conflicts
            ips.append(_said(entry))
        routes += [{"ifName": name, "dst": dst, "gw": gw} for dst, gw in answer_routes(nic)]
    return {"ips": ips, "routes": routes or None}


def workload_endpoint(endpoint: Endpoint) -> Document:
    """WorkloadEndpointStatus."""
    return {
        "podNamespace": endpoint.namespace,
        "podName": endpoint.name,
        "podUID": endpoint.uid,
        "node": endpoint.node,
        "interfaces": [_interface(nic) for nic in endpoint.nics],
    }


def coordinator_config(written: WrittenSettings) -> Document:
    """CoordinatorConfig. Both lists of the cluster's networks are always lists."""
    optional = _said(
        {
            "hijackCIDR": written.hijack_cidr,
            "policyRoutes": [{"dst": each.dst, "gw": each.gw} for each in written.policy_routes],
            "podMACPrefix": written.pod_mac_prefix,
            "podDefaultRouteNIC": written.pod_default_route_nic,
            "hostRuleTable": written.host_rule_table,
            "podRPFilter": written.pod_rp_filter,
            "txQueueLen": written.tx_queue_len,
            "vethLinkAddress": written.veth_link_address,
            "vethMTU": written.veth_mtu,
        }
    )
    return {
        "mode": written.mode,
        "overlayPodCIDR": written.overlay_pod_cidr,
        "serviceCIDR": written.service_cidr,
        "tunePodRoutes": written.tune_pod_routes,
        **optional,
    }


def _addresses(nic: Nic, name: str) -> Iterator[Document]:
    for version, address, pool, gateway in (
        (4, nic.ipv4, nic.ipv4_pool, nic.ipv4_gateway),
        (6, nic.ipv6, nic.ipv6_pool, nic.ipv6_gateway),
    ):
        if address:
            yield _said(
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
    said = _said(
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
    return {"interface": nic.interface, **said, "routes": routes or None}


def _said(document: Document) -> Document:
    return {key: value for key, value in document.items() if value}
