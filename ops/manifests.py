"""Converts objects and their status to manifests, for ``-o json`` and ``-o yaml``.

Pools, subnets and endpoints become custom resources (docs/reference/custom-resources.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.domain.evolution import Ledger, RevisedClaim
from core.domain.model import Endpoint, Nic, Pool, Quarantine, Subnet
from core.domain.subnets.subnet_model import count_addresses, shares_of_subnet
from core.manifests.kinds.fields import API_VERSION
from core.manifests.manifest_writer import Allocation, PoolStatus, SubnetStatus, to_manifest

Plain = dict[str, Any]
"""A JSON object."""


def pool_manifest(pool: Pool, addresses: Sequence[str], ledger: Ledger) -> Plain:
    """A SpiderIPPool with its status. ``addresses``: the claimed addresses."""
    allocations = {address: _allocation(ledger.claims[address], ledger) for address in addresses}
    return to_manifest(pool, PoolStatus(len(addresses), allocations))


def subnet_manifest(subnet: Subnet, ledger: Ledger) -> Plain:
    """A SpiderSubnet with its status."""
    allocated = count_addresses(subnet, ledger.pools).allocated
    return to_manifest(subnet, SubnetStatus(allocated, shares_of_subnet(subnet.name, ledger.pools)))


def endpoint_manifest(endpoint: Endpoint) -> Plain:
    """A SpiderEndpoint."""
    return {
        "apiVersion": API_VERSION,
        "kind": "SpiderEndpoint",
        "metadata": {"name": endpoint.name, "namespace": endpoint.namespace},
        "status": {
            "current": {
                "uid": endpoint.uid,
                "node": endpoint.node,
                "ips": [_nic(nic) for nic in endpoint.nics],
            },
            "ownerControllerType": endpoint.owner_kind,
            "ownerControllerName": endpoint.owner_name,
        },
    }


def quarantine_manifest(quarantine: Quarantine) -> Plain:
    """A quarantined address, as a plain JSON object."""
    return {
        "address": quarantine.address,
        "ipVersion": quarantine.family,
        "reason": quarantine.reason,
        "evidence": quarantine.evidence,
        # ``stranger`` is the published key of the conflicting host.
        "stranger": quarantine.conflicting_host._asdict() if quarantine.conflicting_host else None,
    }


def _allocation(revised: RevisedClaim, ledger: Ledger) -> Allocation:
    claim = revised.claim
    endpoint = ledger.endpoints.get((claim.namespace, claim.pod))
    return Allocation(f"{claim.namespace}/{claim.pod}", endpoint.uid if endpoint else "")


def _nic(nic: Nic) -> Plain:
    optional = {
        "ipv4": nic.ipv4,
        "ipv4Pool": nic.ipv4_pool,
        "ipv4Gateway": nic.ipv4_gateway,
        "ipv6": nic.ipv6,
        "ipv6Pool": nic.ipv6_pool,
        "ipv6Gateway": nic.ipv6_gateway,
        "mac": nic.mac,
        "routes": [{"dst": route.dst, "gw": route.gw} for route in nic.routes],
    }
    manifest: Plain = {"interface": nic.interface, "vlan": nic.vlan}
    manifest |= {name: value for name, value in optional.items() if value}
    if nic.ipv4_gateway or nic.ipv6_gateway:
        manifest["cleanGateway"] = nic.clean_gateway
    return manifest
