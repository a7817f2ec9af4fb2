"""Slots: extended resources that limit the number of Pods on a node. Pure.

See docs/reference/networks.md, "Slots". Agents advertise slots to kubelet, and the Pod webhook adds
requests for slots, so that a Pod is scheduled only to a node with a free slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from core.domain.device_allocation import Device, DeviceAllocation
from core.domain.patterns import globs
from core.domain.patterns.labels import LabelSelector, key_faults, matches

RESOURCE_GROUP: Final = "spidernet.io"
SUB_ENI: Final = f"{RESOURCE_GROUP}/sub-eni"
"""The default resource of a network provider's slots."""

NIC_SLOTS: Final = 10_000
"""The default number for a NIC: more than a node can have Pods."""

SLOTS_MAX: Final = 100_000
"""kubelet accepts a list of 4 MiB, and a slot needs about 40 bytes."""

_DIGITS_MAX: Final = len(str(SLOTS_MAX))
_NOT_MASTERS: Final = ("cni", "flannel", "veth", "docker", "br-", "virbr", "tun", "tap")
"""Prefixes of names of links that are never a master interface."""

_SUB_ENI_SLOT: Final = "sub-eni"
_NATIVE: Final = "kubernetes.io"
_QUOTA: Final = "requests."  # the prefix in a ResourceQuota


class SubEniRule(NamedTuple):
    """Slots of a provider's resource on each selected node."""

    resource: str = SUB_ENI
    slots: int = 0
    nodes: LabelSelector = LabelSelector()


class NicRule(NamedTuple):
    """Slots of each NIC whose name matches. Empty ``include``: all names."""

    slots: int = NIC_SLOTS
    nodes: LabelSelector = LabelSelector()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class DeviceRules(NamedTuple):
    """The rules of all slots. ``nodes``: only these nodes offer slots."""

    nodes: LabelSelector = LabelSelector()
    sub_eni: tuple[SubEniRule, ...] = ()
    nics: tuple[NicRule, ...] = ()

    def needs_labels(self) -> bool:
        rules: tuple[SubEniRule | NicRule, ...] = (*self.sub_eni, *self.nics)
        selectors = [self.nodes, *(rule.nodes for rule in rules)]
        return not all(selector.is_empty() for selector in selectors)


class HostNic(NamedTuple):
    """A link of a node. ``has_device``: the hardware or hypervisor has a device for the link."""

    name: str
    has_device: bool
    is_loopback: bool = False


class SlotResource(NamedTuple):
    """An ``Offer`` of slots of one resource, with ids ``<prefix>-0`` to ``<prefix>-<slots-1>``."""

    prefix: str
    slots: int

    @property
    def size(self) -> int:
        return self.slots

    def devices(self) -> list[Device]:
        return [Device(name) for name in self.ids()]

    def allocation(self, _: Sequence[str], /) -> DeviceAllocation:
        return DeviceAllocation()

    def ids(self) -> list[str]:
        return [f"{self.prefix}-{number}" for number in range(self.slots)]

    def has(self, device: str, /) -> bool:
        prefix, _, number = device.rpartition("-")
        if prefix != self.prefix or not number.isdecimal() or len(number) > _DIGITS_MAX:
            return False
        return int(number) < self.slots and number == str(int(number))


def nic_resource(link: str) -> str:
    """The resource of a NIC's slots, or "" if Kubernetes rejects the name."""
    name = f"{RESOURCE_GROUP}/{link}-nic"
    return "" if resource_fault(name) else name


def resource_fault(name: str) -> str:
    """Why Kubernetes rejects this name, or ""."""
    domain, slash, _ = name.rpartition("/")
    if not slash:
        return f"resource {name!r} has no domain; an example with a domain is {SUB_ENI}"
    if domain == _NATIVE or domain.endswith(f".{_NATIVE}") or name.startswith(_QUOTA):
        return f"resource {name!r} has a name that Kubernetes reserves"
    fault = next(key_faults(name), "")
    return fault and f"resource {fault.removeprefix('key ')}"


def offered_slots(
    rules: DeviceRules, labels: Mapping[str, str] | None, nics: Iterable[HostNic]
) -> dict[str, SlotResource] | None:
    """Resource -> slots of a node. Returns None if ``labels`` is None and a rule needs labels."""
    if labels is None:
        if rules.needs_labels():
            return None
        labels = {}
    if not matches(rules.nodes, labels):
        return {}
    matching = [rule for rule in rules.nics if matches(rule.nodes, labels)]
    offered = _nic_slots(matching, rules, nics)
    for rule in rules.sub_eni:
        if matches(rule.nodes, labels):
            offered.setdefault(rule.resource, SlotResource(_SUB_ENI_SLOT, rule.slots))
    return offered


def _nic_slots(
    matching: list[NicRule], rules: DeviceRules, nics: Iterable[HostNic]
) -> dict[str, SlotResource]:
    """If several rules match a NIC, the greatest number of slots is used."""
    offered = {}
    for link in _masters(rules, nics):
        slots = [rule.slots for rule in matching if _matches_name(rule, link)]
        resource = nic_resource(link)
        if slots and resource:
            offered[resource] = SlotResource(f"{link}-nic", max(slots))
    return offered


def _masters(rules: DeviceRules, nics: Iterable[HostNic]) -> Iterator[str]:
    """The links that can get slots. If no rule has ``include``, they must have a device."""
    only_devices = not any(rule.include for rule in rules.nics)
    for nic in nics:
        is_master = not nic.is_loopback and not nic.name.startswith(_NOT_MASTERS)
        if is_master and (nic.has_device or not only_devices):
            yield nic.name


def _matches_name(rule: NicRule, link: str) -> bool:
    included = not rule.include or any(globs.match(pattern, link) for pattern in rule.include)
    return included and not any(globs.match(pattern, link) for pattern in rule.exclude)
