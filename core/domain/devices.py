"""Slots: extended resources that limit the number of Pods on a node.

See docs/reference/configuration.md, "conf.yml", docs/reference/networks.md, "Slots".

Agents advertise them to kubelet, the Pod webhook adds requests for them, and Kubernetes schedules a
Pod only to a node with a free one. The slots of a NIC show that the node has it; those of a network
provider limit how many addresses it binds there. Pure: the caller passes the node's labels and
NICs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from core.domain.device_allocation import Device, DeviceAllocation
from core.domain.patterns import globs
from core.domain.patterns.labels import LabelSelector, key_faults, matches

GROUP: Final = "spidernet.io"
SUB_ENI: Final = f"{GROUP}/sub-eni"
"""The default resource name of a network provider's slots."""

NIC_SLOTS: Final = 10_000
"""The slots of a NIC whose rule has no number: enough for any number of Pods."""

SLOTS_MAX: Final = 100_000
"""The slots of one resource: kubelet accepts 4 MiB of devices, and each has some forty bytes."""

_DIGITS_MAX: Final = len(str(SLOTS_MAX))
_PASSED_OVER: Final = ("cni", "flannel", "veth", "docker", "br-", "virbr", "tun", "tap")
"""Prefixes of the names of links that are never the master interface of a Pod."""

_SUB_ENI_SLOT: Final = "sub-eni"
_NATIVE: Final = "kubernetes.io"
_QUOTA: Final = "requests."


class SubEniRule(NamedTuple):
    """A number of slots of a provider's resource on each selected node; 0 is allowed."""

    resource: str = SUB_ENI
    slots: int = 0
    nodes: LabelSelector = LabelSelector()


class NicRule(NamedTuple):
    """A number of slots of each NIC, by patterns of names. ``include`` empty: of all there are."""

    slots: int = NIC_SLOTS
    nodes: LabelSelector = LabelSelector()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class DeviceRules(NamedTuple):
    """``nodes``: which of them offer anything at all."""

    nodes: LabelSelector = LabelSelector()
    sub_eni: tuple[SubEniRule, ...] = ()
    nics: tuple[NicRule, ...] = ()

    def needs_labels(self) -> bool:
        """Whether anything depends on a node's labels."""
        selectors = [self.nodes, *(one.nodes for one in self.sub_eni)]
        selectors += [one.nodes for one in self.nics]
        return not all(one.is_empty() for one in selectors)


class HostNic(NamedTuple):
    """A link of a node. ``has_device``: it is a device of hardware or of a hypervisor."""

    name: str
    has_device: bool
    is_loopback: bool = False


class SlotResource(NamedTuple):
    """``slots`` of one resource; each is called ``<slot>-<number>``, from 0. It is an ``Offer``."""

    slot: str
    slots: int

    @property
    def size(self) -> int:
        """The number of slots."""
        return self.slots

    def devices(self) -> list[Device]:
        """Each slot, which is always healthy and near no CPU."""
        return [Device(name) for name in self.ids()]

    def allocation(self, _: Sequence[str], /) -> DeviceAllocation:
        """Nothing: a slot is a number."""
        return DeviceAllocation()

    def ids(self) -> list[str]:
        """What kubelet calls each of them."""
        return [f"{self.slot}-{number}" for number in range(self.slots)]

    def has(self, device: str, /) -> bool:
        """Whether it is one of ``ids``, without making them."""
        slot, _, number = device.rpartition("-")
        if slot != self.slot or not number.isdecimal() or len(number) > _DIGITS_MAX:
            return False
        return int(number) < self.slots and number == str(int(number))


def nic_resource(link: str) -> str:
    """What a NIC's slots are called; "" for a link whose name fits into no such name."""
    name = f"{GROUP}/{link}-nic"
    return "" if resource_fault(name) else name


def resource_fault(name: str) -> str:
    """Why Kubernetes would not take an extended resource of this name; "" if it would."""
    domain, slash, _ = name.rpartition("/")
    if not slash:
        return f"resource {name!r} has no domain, as in {SUB_ENI}"
    if domain == _NATIVE or domain.endswith(f".{_NATIVE}") or name.startswith(_QUOTA):
        return f"resource {name!r} has a name that Kubernetes keeps for its own"
    return next(key_faults(name), "")


def offered_slots(
    rules: DeviceRules, labels: Mapping[str, str] | None, nics: Iterable[HostNic]
) -> dict[str, SlotResource] | None:
    """Resource -> slots of a node. None: its labels decide and are not known yet."""
    if labels is None:
        if rules.needs_labels():
            return None
        labels = {}
    if not matches(rules.nodes, labels):
        return {}
    offered = _offers_of_nics(
        [one for one in rules.nics if matches(one.nodes, labels)], rules, nics
    )
    for rule in rules.sub_eni:
        if matches(rule.nodes, labels):
            offered.setdefault(rule.resource, SlotResource(_SUB_ENI_SLOT, rule.slots))
    return offered


def _offers_of_nics(
    matching: list[NicRule], rules: DeviceRules, nics: Iterable[HostNic]
) -> dict[str, SlotResource]:
    """The offers of NICs; if several rules match a NIC, the greatest number of slots counts."""
    offered = {}
    for link in _masters(rules, nics):
        slots = [rule.slots for rule in matching if _is_named(rule, link)]
        resource = nic_resource(link)
        if slots and resource:
            offered[resource] = SlotResource(f"{link}-nic", max(slots))
    return offered


def _masters(rules: DeviceRules, nics: Iterable[HostNic]) -> Iterator[str]:
    """The links of the rules; only those with a device, unless a rule names links."""
    only_devices = not any(rule.include for rule in rules.nics)
    for nic in nics:
        is_master = not nic.is_loopback and not nic.name.startswith(_PASSED_OVER)
        if is_master and (nic.has_device or not only_devices):
            yield nic.name


def _is_named(rule: NicRule, link: str) -> bool:
    included = not rule.include or any(globs.match(one, link) for one in rule.include)
    return included and not any(globs.match(one, link) for one in rule.exclude)
