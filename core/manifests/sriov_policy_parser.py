"""Parses SriovNetworkNodePolicies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from core.domain.sriov.model import NETDEVICE, ON_OFF_TEXTS, NicSelector, NodePolicy, parse_nic_name
from core.errors import BadInput
from core.manifests.kinds.sriov import (
    API_VERSION,
    NODE_POLICY,
    NicSelectorSpec,
    NodePolicyManifest,
)
from core.manifests.manifest_parser import objects
from core.manifests.schema_errors import explain


def node_policies(text: str) -> Iterator[NodePolicy]:
    """Yield every SriovNetworkNodePolicy in the text; other kinds are skipped. Raises BadInput."""
    for location, value in objects(text):
        if isinstance(value, Mapping) and value.get("kind") == NODE_POLICY:
            yield node_policy_of(value, location)


def node_policy_of(value: Mapping[str, object], location: str = "object") -> NodePolicy:
    """Parse a policy. Raises BadInput."""
    where = f"{location} ({NODE_POLICY})"
    try:
        manifest = msgspec.convert(value, NodePolicyManifest)
    except msgspec.ValidationError as error:
        fault = explain(error, NodePolicyManifest, value)
        text = f"{where}: {fault.path or 'the object'}: {fault.message}"
        raise BadInput(text, subject=fault.path, remedy=fault.remedy) from None
    if manifest.api_version != API_VERSION:
        version = manifest.api_version[:80]
        raise BadInput(
            f"{where}: apiVersion: expected {API_VERSION}, got {version!r}",
            subject="apiVersion",
            remedy=f"set apiVersion to {API_VERSION}",
        )
    spec = manifest.spec
    for field, content in (
        ("nicSelector.netFilter", spec.nic_selector.net_filter),
        ("vdpaType", spec.vdpa_type),
    ):
        if content:
            raise BadInput(
                f"{where}: spec.{field} is not supported",
                subject=f"spec.{field}",
                remedy="remove this field",
            )
    return NodePolicy(
        manifest.metadata.name,
        spec.resource_name,
        spec.num_vfs,
        _selector(spec.nic_selector, where),
        spec.node_selector or {},
        spec.priority,
        spec.mtu,
        spec.link_type.lower(),
        spec.device_type or NETDEVICE,
        spec.is_rdma,
        spec.e_switch_mode,
        spec.externally_managed,
        spec.exclude_topology,
        _on_or_off(spec.trust, "trust", where),
        _on_or_off(spec.spoof_chk, "spoofChk", where),
    )


def _on_or_off(text: str, field: str, where: str) -> bool | None:
    """True for ``on``, False for ``off``, None for ""."""
    values = {value: key for key, value in ON_OFF_TEXTS.items()}
    if text not in values:
        raise BadInput(
            f"{where}: spec.{field}: {text[:80]!r} is not on or off",
            subject=f"spec.{field}",
            remedy='write "on" or "off" with quotes: without them YAML reads true or false',
        )
    return values[text]


def _selector(spec: NicSelectorSpec, where: str) -> NicSelector:
    names = []
    for text in spec.pf_names or ():
        name = parse_nic_name(text)
        if name is None:
            raise BadInput(
                f"{where}: spec.nicSelector.pfNames: {text[:80]!r} is not the name of a NIC",
                subject="spec.nicSelector.pfNames",
                remedy="write it as ens1f0, or as ens1f0#0-3 for a range of virtual functions",
            )
        names.append(name)
    pci_addresses = tuple(address.lower() for address in spec.root_devices or ())
    return NicSelector(tuple(names), spec.vendor.lower(), spec.device_id.lower(), pci_addresses)
