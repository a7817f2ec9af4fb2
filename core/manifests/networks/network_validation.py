"""The validation rules of a SpiderMultusConfig, for the validating webhook.

See docs/reference/admission.md, "SpiderMultusConfig". Field paths are Spiderpool's.
Specs that crash Spiderpool or describe an unusable network are refused too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

import msgspec

from core.domain.validation.common_rules import ObjectReference, object_name_rule
from core.errors import BadInput, Refusal, RefusalKind
from core.manifests.kinds.multus_configs import (
    CNI_TYPES,
    VLAN_MAX,
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
from core.manifests.networks.coordinators import coordinator_rules
from core.manifests.networks.nad_renderer import (
    BOND_MASTERS_MIN,
    CNI_VERSION,
    CNI_VERSION_DEFAULT,
    CR_NAME,
)
from core.manifests.networks.network_defaults import (
    CUSTOM_TYPE,
    INJECTION_ANNOTATIONS,
    RDMA_INJECTION,
    InjectableBlock,
)
from core.manifests.schema_errors import JSON_ERRORS

T = TypeVar("T")

CNI_VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")
MULTUS_CONFIG_KIND: Final = "SpiderMultusConfig"
FIELD_PATHS: Final = {
    "macvlan": "spec.macvlanConfig",
    "ipvlan": "spec.ipvlanConfig",
    "vlan": "spec.vlan",
    "sriov": "spec.sriovConfig",
    "ib-sriov": "spec.ibsriovConfig",
    "ipoib": "spec.ipoibConfig",
    "ovs": "spec.ovsConfig",
    "custom": "spec.customCniTypeConfig",
}
"""cniType -> the field path of violations in its block."""

_OUT_OF_RANGE: Final = f"is out of range: set a number from 0 (untagged) to {VLAN_MAX}"


class ReviewedNetwork(NamedTuple):
    """The parts of a SpiderMultusConfig that the rules read.

    ``old_annotations`` has the annotations before an update; it is None for a new object.
    """

    namespace: str
    name: str
    annotations: Mapping[str, str]
    spec: MultusConfigSpec
    old_annotations: Mapping[str, str] | None = None


def network_rules(network: ReviewedNetwork) -> Iterator[Refusal]:
    """Yield every violation, in Spiderpool's order. The caller sets the defaults of the spec."""
    subject = ObjectReference(MULTUS_CONFIG_KIND, network.name, network.namespace)
    yield from _annotation_rules(subject, network)
    yield from _type_rules(_TypeRules(subject, network))
    if network.spec.coordinator is not None:
        yield from coordinator_rules(subject, network.spec.coordinator)
    for text in network.spec.chain_cni_json_data or ():
        try:
            chain_item(text)
        except BadInput as error:
            field = "spec.chainCNIJsonData"
            yield subject.refuse("Forbidden", "chain-item", field, error.message, error.remedy)


def owned_attachment_message(namespace: str, name: str, owner: str) -> str:
    """Spiderpool's error text for a NAD that belongs to another network."""
    return (
        f"the net-attach-def {namespace}/{name} already exists and is managed by"
        f" {MULTUS_CONFIG_KIND} {namespace}/{owner}."
    )


def _annotation_rules(subject: ObjectReference, network: ReviewedNetwork) -> Iterator[Refusal]:
    field = "metadata.annotations"
    nad_name = network.annotations.get(CR_NAME)
    if nad_name is not None:
        if network.old_annotations is not None and nad_name != network.old_annotations.get(CR_NAME):
            message = f"{CR_NAME} cannot be changed or added after the object was created"
            yield subject.refuse("Invalid", "immutable", field, message, "create another object")
        for refusal in object_name_rule(ObjectReference(MULTUS_CONFIG_KIND, nad_name)):
            yield subject.refuse("Invalid", "nad-name", field, f"{CR_NAME}: {refusal.message}")
    version = network.annotations.get(CNI_VERSION, CNI_VERSION_DEFAULT)
    if version not in CNI_VERSIONS:
        message = f"{CNI_VERSION}: {version[:32]!r} is not one of {', '.join(CNI_VERSIONS)}"
        yield subject.refuse("Invalid", "cni-version", field, message)


def _type_rules(checks: _TypeRules) -> Iterator[Refusal]:
    spec = checks.spec
    rules: tuple[Iterator[Refusal], ...]
    match checks.kind:
        case "macvlan" | "ipvlan" | "vlan":
            link = {"macvlan": spec.macvlan, "ipvlan": spec.ipvlan, "vlan": spec.vlan}[checks.kind]
            rules = (
                checks.own_block(link, checks.link),
                checks.foreign_blocks(),
                checks.injections(link),
            )
        case "sriov":
            block = checks.own_block(spec.sriov, checks.sriov)
            rules = (block, checks.foreign_blocks(), checks.injections(spec.sriov))
        case "ib-sriov":
            block = checks.own_block(
                spec.ibsriov, lambda ib: checks.required(ib.resource_name, "resourceName")
            )
            rules = (block, checks.foreign_blocks(), checks.injections(spec.ibsriov))
        case "ipoib":
            block = checks.own_block(
                spec.ipoib, lambda ipoib: checks.required(ipoib.master, "master")
            )
            rules = (block, checks.foreign_blocks(), checks.injections(spec.ipoib))
        case "ovs":
            block = checks.own_block(spec.ovs, checks.ovs)
            rules = (checks.injections(None), block, checks.foreign_blocks())
        case "custom":
            rules = (checks.injections(None), checks.foreign_blocks(), checks.custom())
        case other:
            message = f"{other[:32]!r} is not one of {', '.join([*CNI_TYPES, CUSTOM_TYPE])}"
            rules = (checks.refuse("NotSupported", "cni-type", message),)
    for violations in rules:
        yield from violations


class _TypeRules:
    """The rules of one spec; each public method yields the violations of a rule."""

    def __init__(self, subject: ObjectReference, network: ReviewedNetwork) -> None:
        self.spec = network.spec
        self.kind = network.spec.cni_type or CUSTOM_TYPE
        self._subject = subject
        self._annotations = network.annotations
        self._path = FIELD_PATHS.get(self.kind, "spec.cniType")

    def refuse(
        self, kind: RefusalKind, rule: str, message: str, field: str = ""
    ) -> Iterator[Refusal]:
        yield self._subject.refuse(kind, rule, field or self._path, message)

    def own_block(
        self, block: T | None, rules: Callable[[T], Iterator[Refusal]]
    ) -> Iterator[Refusal]:
        if block is None:
            message = f"cniType {self.kind} requires {CNI_TYPES[self.kind]}, which is not set"
            return self.refuse("Required", "block-missing", message)
        return rules(block)

    def foreign_blocks(self) -> Iterator[Refusal]:
        for name, block in (*CNI_TYPES.items(), (CUSTOM_TYPE, "custom_cni")):
            if name != self.kind and getattr(self.spec, block) is not None:
                message = f"cniType is {self.kind}: remove the block of cniType {name}"
                yield from self.refuse("Forbidden", "foreign-block", message, "spec.cniType")

    def injections(self, block: InjectableBlock | None) -> Iterator[Refusal]:
        for key in INJECTION_ANNOTATIONS:
            if key not in self._annotations:
                continue
            if block is None:
                message = f"annotation {key} cannot be used with cniType {self.kind}: remove it"
                yield from self.refuse("Forbidden", "inject", message, "spec.cniType")
                continue
            resource = _resource_of(block)
            if key == RDMA_INJECTION and not resource:
                message = f"annotation {key} requires a resource name, which is not set"
                yield from self.refuse("Invalid", "inject", message)
            elif resource and not _has_pools(block.ippools):
                message = f"annotation {key} requires ippools, but none is set"
                yield from self.refuse("Invalid", "inject", message)

    def link(self, link: LinkSpec) -> Iterator[Refusal]:
        if isinstance(link, VlanSpec):
            yield from self._vlan_mode(link)
        yield from self._vlan_and_mtu(link.vlan_id, link.mtu)
        if link.ippools is not None and link.ippools.match_master_subnet:
            message = "matchMasterSubnet can only be used with cniType sriov: set it to false"
            yield from self.refuse("Invalid", "match-master-subnet", message)
        if not link.master:
            yield from self.refuse("Invalid", "master", "master can't be empty")
        elif len(link.master) >= BOND_MASTERS_MIN and not (link.bond and link.bond.name):
            message = f"{len(link.master)} masters require bond.name, which is not set"
            yield from self.refuse("Invalid", "bond", message)

    def sriov(self, sriov: SriovSpec) -> Iterator[Refusal]:
        yield from self._vlan_and_mtu(sriov.vlan_id, sriov.mtu)
        lowest, highest = sriov.min_tx_rate_mbps or 0, sriov.max_tx_rate_mbps or 0
        if lowest > highest:
            message = f"minTxRateMbps {lowest} is greater than maxTxRateMbps {highest}"
            yield from self.refuse("Invalid", "tx-rate", message)
        yield from self.required(sriov.resource_name, "resourceName")

    def ovs(self, ovs: OvsSpec) -> Iterator[Refusal]:
        yield from self._vlan_and_mtu(ovs.vlan, mtu=None)
        for index, trunk in enumerate(ovs.trunk or ()):
            for vlan in (trunk.min_id, trunk.max_id, trunk.id):
                if vlan is not None and not 0 <= vlan <= VLAN_MAX:
                    message = f"VLAN {vlan} of trunk[{index}] {_OUT_OF_RANGE}"
                    yield from self.refuse("Invalid", "trunk", message)
                    break
            else:
                yield from self._trunk_range(index, trunk)

    def custom(self) -> Iterator[Refusal]:
        try:
            if self.spec.custom_cni:
                msgspec.json.decode(self.spec.custom_cni)
        except JSON_ERRORS as error:
            yield from self.refuse("Forbidden", "custom-json", f"customCNI is not JSON: {error}")

    def required(self, value: str | None, field: str) -> Iterator[Refusal]:
        return iter(()) if value else self.refuse("Required", field, f"{field} is not set")

    def _trunk_range(self, index: int, trunk: Trunk) -> Iterator[Refusal]:
        if trunk.max_id is None:
            return
        if trunk.min_id is None:
            message = f"trunk[{index}] has maxID {trunk.max_id} and no minID: set minID"
            yield from self.refuse("Invalid", "trunk", message)
        elif trunk.min_id > trunk.max_id:
            message = f"minID {trunk.min_id} of trunk[{index}] is greater than maxID {trunk.max_id}"
            yield from self.refuse("Invalid", "trunk", message)

    def _vlan_mode(self, link: VlanSpec) -> Iterator[Refusal]:
        if link.vlan_mode == "manual" and link.vlan_id is None:
            message = "vlanMode manual requires vlanID, which is not set"
            yield from self.refuse("Invalid", "vlan-mode", message)
        if link.vlan_mode == "auto" and link.vlan_id is not None:
            message = "vlanID is set, but vlanMode auto chooses the VLAN: leave vlanID out"
            yield from self.refuse("Invalid", "vlan-mode", message)

    def _vlan_and_mtu(self, vlan: int | None, mtu: int | None) -> Iterator[Refusal]:
        if vlan is not None and not 0 <= vlan <= VLAN_MAX:
            yield from self.refuse("Invalid", "vlan", f"VLAN {vlan} {_OUT_OF_RANGE}")
        if mtu is not None and mtu < 0:
            message = f"mtu {mtu} is negative: set a positive number, or 0 for the master's MTU"
            yield from self.refuse("Invalid", "mtu", message)


def _resource_of(block: InjectableBlock) -> str | None:
    """The block's resource name; for IPoIB, which has no resource, the master."""
    match block:
        case LinkSpec():
            return block.rdma_resource_name
        case IpoibSpec():
            return block.master
        case _:
            return block.resource_name


def _has_pools(pools: NetworkPools | None) -> bool:
    return pools is not None and bool(pools.ipv4 or pools.ipv6)
