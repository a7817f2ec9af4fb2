"""The validation rules of a SpiderMultusConfig: the validating webhook.

See docs/reference/admission.md, "SpiderMultusConfig".

``network_rules`` yields every violation, at Spiderpool's field paths; the webhook reports one, the
first. A spec that crashes Spiderpool, or that no network can use, is refused too. The spec is
validated after the defaults have completed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

import msgspec

from core.domain.configuration.refusals import Refusal, RefusalKind
from core.domain.validation.shared import ObjectReference, object_name_rule
from core.errors import BadInput
from core.manifests.kinds.multus_configs import (
    TYPES,
    VLAN_MAX,
    IbSriovSpec,
    IpoibSpec,
    LinkSpec,
    MultusConfigSpec,
    NetworkPools,
    OvsSpec,
    SriovSpec,
    VlanSpec,
)
from core.manifests.networks.chain import chain_item
from core.manifests.networks.coordinators import coordinator_rules
from core.manifests.networks.defaults import CUSTOM, INJECTIONS
from core.manifests.networks.nad_renderer import CNI_VERSION, CNI_VERSION_DEFAULT, CR_NAME, SEVERAL

T = TypeVar("T")
Injected = LinkSpec | SriovSpec | IbSriovSpec | IpoibSpec
"""Blocks whose networks the Pod webhook may inject."""

CNI_VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")
KIND: Final = "SpiderMultusConfig"
PATHS: Final = {
    "macvlan": "spec.macvlanConfig",
    "ipvlan": "spec.ipvlanConfig",
    "vlan": "spec.vlan",
    "sriov": "spec.sriovConfig",
    "ib-sriov": "spec.ibsriovConfig",
    "ipoib": "spec.ipoibConfig",
    "ovs": "spec.ovsConfig",
    "custom": "spec.customCniTypeConfig",
}
"""Where Spiderpool reports the faults of a type's block."""


class ReviewedNetwork(NamedTuple):
    """A SpiderMultusConfig as the webhook sees it; ``before``: the old annotations of an update."""

    namespace: str
    name: str
    annotations: Mapping[str, str]
    spec: MultusConfigSpec
    before: Mapping[str, str] | None = None


def network_rules(network: ReviewedNetwork) -> Iterator[Refusal]:
    """Yield every violation in order; the webhook, like Spiderpool, reports the first."""
    subject = ObjectReference(KIND, network.name, network.namespace)
    yield from _annotation_rules(subject, network)
    yield from _type_rules(_Judge(subject, network))
    if network.spec.coordinator is not None:
        yield from coordinator_rules(subject, network.spec.coordinator)
    for text in network.spec.chain_cni_json_data or ():
        try:
            chain_item(text)
        except BadInput as error:
            field = "spec.chainCNIJsonData"
            yield subject.refuse("Forbidden", "chain-item", field, error.message, error.remedy)


def owned_attachment(namespace: str, name: str, owner: str) -> str:
    """Why a NAD of another network is not changed, with Spiderpool's text."""
    return (
        f"the net-attach-def {namespace}/{name} already exists and is managed by"
        f" {KIND} {namespace}/{owner}."
    )


def _annotation_rules(subject: ObjectReference, network: ReviewedNetwork) -> Iterator[Refusal]:
    field = "metadata.annotations"
    called = network.annotations.get(CR_NAME)
    if network.before is not None and called is not None and called != network.before.get(CR_NAME):
        message = f"{CR_NAME} cannot be changed or added later"
        yield subject.refuse("Invalid", "immutable", field, message, "make another network")
    if called is not None:
        for refusal in object_name_rule(ObjectReference(KIND, called)):
            yield subject.refuse("Invalid", "nad-name", field, f"{CR_NAME}: {refusal.message}")
    version = network.annotations.get(CNI_VERSION, CNI_VERSION_DEFAULT)
    if version not in CNI_VERSIONS:
        message = f"{CNI_VERSION}: {version[:32]!r} is none of {', '.join(CNI_VERSIONS)}"
        yield subject.refuse("Invalid", "cni-version", field, message)


def _type_rules(judge: _Judge) -> Iterator[Refusal]:
    """The rules of the chosen cniType, in order.

    See docs/reference/admission.md, "SpiderMultusConfig".
    """
    spec = judge.spec
    rules: tuple[Iterator[Refusal], ...]
    match judge.kind:
        case "macvlan" | "ipvlan" | "vlan":
            link = {"macvlan": spec.macvlan, "ipvlan": spec.ipvlan, "vlan": spec.vlan}[judge.kind]
            rules = (judge.block(link, judge.link), judge.foreign(), judge.injections(link))
        case "sriov":
            block = judge.block(spec.sriov, judge.sriov)
            rules = (block, judge.foreign(), judge.injections(spec.sriov))
        case "ib-sriov":
            block = judge.block(
                spec.ibsriov, lambda ib: judge.named(ib.resource_name, "resourceName")
            )
            rules = (block, judge.foreign(), judge.injections(spec.ibsriov))
        case "ipoib":
            block = judge.block(spec.ipoib, lambda ipoib: judge.named(ipoib.master, "master"))
            rules = (block, judge.foreign(), judge.injections(spec.ipoib))
        case "ovs":
            block = judge.block(spec.ovs, judge.ovs)
            rules = (judge.injections(None), block, judge.foreign())
        case "custom":
            rules = (judge.injections(None), judge.foreign(), judge.custom())
        case other:
            message = f"{other[:32]!r} is none of {', '.join([*TYPES, CUSTOM])}"
            rules = (judge.refuse("NotSupported", "cni-type", message),)
    for some in rules:
        yield from some


class _Judge:
    """Rules of one spec; each method yields what it has against it."""

    def __init__(self, subject: ObjectReference, network: ReviewedNetwork) -> None:
        self.spec = network.spec
        self.kind = network.spec.cni_type or CUSTOM
        self._subject = subject
        self._annotations = network.annotations
        self._path = PATHS.get(self.kind, "spec.cniType")

    def refuse(
        self, kind: RefusalKind, rule: str, message: str, field: str = ""
    ) -> Iterator[Refusal]:
        """One refusal, at the type's path unless another is named."""
        yield self._subject.refuse(kind, rule, field or self._path, message)

    def block(self, block: T | None, rules: Callable[[T], Iterator[Refusal]]) -> Iterator[Refusal]:
        """The type's block is there, and its own rules hold."""
        if block is None:
            message = f"cniType {self.kind} needs {TYPES[self.kind]}"
            return self.refuse("Required", "block-missing", message)
        return rules(block)

    def foreign(self) -> Iterator[Refusal]:
        """There is no block of another type; customCNI counts even when it is empty."""
        for name, block in (*TYPES.items(), (CUSTOM, "custom_cni")):
            if name != self.kind and getattr(self.spec, block) is not None:
                message = f"there is a block of cniType {name}"
                yield from self.refuse("Forbidden", "foreign-block", message, "spec.cniType")

    def injections(self, block: Injected | None) -> Iterator[Refusal]:
        """What the Pod webhook injects must be there: a resource, and pools."""
        for key in INJECTIONS:
            if key not in self._annotations:
                continue
            if block is None:
                message = f"{key} is not for cniType {self.kind}"
                yield from self.refuse("Forbidden", "inject", message, "spec.cniType")
                continue
            resource = _resource_of(block)
            if key == INJECTIONS[0] and not resource:
                yield from self.refuse("Invalid", "inject", f"{key} needs a resource name")
            elif resource and not _has_pools(block.ippools):
                yield from self.refuse("Invalid", "inject", f"{key} needs at least one ippool")

    def link(self, link: LinkSpec) -> Iterator[Refusal]:
        """macvlan, ipvlan and vlan."""
        if isinstance(link, VlanSpec):
            yield from self._vlan_mode(link)
        yield from self._vlan_and_mtu(link.vlan_id, link.mtu)
        if link.ippools is not None and link.ippools.match_master_subnet:
            message = "matchMasterSubnet is for sriov only"
            yield from self.refuse("Invalid", "match-master-subnet", message)
        if not link.master:
            yield from self.refuse("Invalid", "master", "master can't be empty")
        elif len(link.master) >= SEVERAL and not (link.bond and link.bond.name):
            yield from self.refuse("Invalid", "bond", "several masters need a bond with a name")

    def sriov(self, sriov: SriovSpec) -> Iterator[Refusal]:
        """sriov: also a max rate of 0 bounds the min rate."""
        yield from self._vlan_and_mtu(sriov.vlan_id, sriov.mtu)
        if (sriov.min_tx_rate_mbps or 0) > (sriov.max_tx_rate_mbps or 0):
            message = "minTxRateMbps is more than maxTxRateMbps"
            yield from self.refuse("Invalid", "tx-rate", message)
        yield from self.named(sriov.resource_name, "resourceName")

    def ovs(self, ovs: OvsSpec) -> Iterator[Refusal]:
        """ovs: VLANs within bounds, and ranges with both ends."""
        yield from self._vlan_and_mtu(ovs.vlan, 0)
        for trunk in ovs.trunk or ():
            ids = (trunk.min_id, trunk.max_id, trunk.id)
            if any(one is not None and not 0 <= one <= VLAN_MAX for one in ids):
                yield from self.refuse("Invalid", "trunk", f"a VLAN is 0 to {VLAN_MAX}")
            elif trunk.max_id is not None and (trunk.min_id is None or trunk.min_id > trunk.max_id):
                message = "maxID needs a minID that is not greater"
                yield from self.refuse("Invalid", "trunk", message)

    def custom(self) -> Iterator[Refusal]:
        """Any JSON in customCNI, or nothing."""
        try:
            if self.spec.custom_cni:
                msgspec.json.decode(self.spec.custom_cni)
        except msgspec.DecodeError as error:
            yield from self.refuse("Forbidden", "custom-json", f"customCNI: {error}")

    def named(self, value: str | None, field: str) -> Iterator[Refusal]:
        """A text that must not be empty."""
        return iter(()) if value else self.refuse("Required", field, f"there is no {field}")

    def _vlan_mode(self, link: VlanSpec) -> Iterator[Refusal]:
        if link.vlan_mode == "manual" and link.vlan_id is None:
            yield from self.refuse("Invalid", "vlan-mode", "vlanMode manual needs vlanID")
        if link.vlan_mode == "auto" and link.vlan_id is not None:
            message = "vlanMode auto chooses the VLAN: leave vlanID out"
            yield from self.refuse("Invalid", "vlan-mode", message)

    def _vlan_and_mtu(self, vlan: int | None, mtu: int | None) -> Iterator[Refusal]:
        if vlan is not None and not 0 <= vlan <= VLAN_MAX:
            yield from self.refuse("Invalid", "vlan", f"a VLAN is 0 to {VLAN_MAX}, not {vlan}")
        if (mtu or 0) < 0:
            yield from self.refuse("Invalid", "mtu", f"an MTU is not negative: {mtu}")


def _resource_of(block: Injected) -> str | None:
    match block:
        case LinkSpec():
            return block.rdma_resource_name
        case IpoibSpec():
            return block.master
        case _:
            return block.resource_name


def _has_pools(pools: NetworkPools | None) -> bool:
    return pools is not None and bool(pools.ipv4 or pools.ipv6)
