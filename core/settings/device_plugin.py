"""Defines and checks ``agent.networkResourcePlugin`` of conf.yml.

A slot is one unit of an extended resource (``core.domain.slots``). Agents advertise slots, and the
Pod webhook requests slots. Unknown keys of a node selector are refused: an ignored key could leave
an empty selector, which matches every node. See docs/reference/configuration.md, "conf.yml".
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from core.domain.patterns import globs
from core.domain.patterns.labels import LabelSelector, problems
from core.domain.slots import (
    NIC_SLOTS,
    SLOTS_MAX,
    SUB_ENI,
    DeviceRules,
    NicRule,
    SubEniRule,
    resource_fault,
)
from core.errors import BadInput
from core.manifests.kinds.fields import SelectorSpec, selector_of

KUBELET_DIRECTORY: Final = "/var/lib/kubelet"

RULES_MAX: Final = 64

PATTERNS_MAX: Final = 256

_KEY: Final = "agent.networkResourcePlugin"
_ADVERTISEMENT_KEY: Final = f"{_KEY}.resourceAdvertisement"

_Slots = Annotated[int, msgspec.Meta(ge=0, le=SLOTS_MAX)]
_Patterns = Annotated[tuple[str, ...], msgspec.Meta(max_length=PATTERNS_MAX)]


class SubEniRuleConf(msgspec.Struct, frozen=True, rename="camel"):
    """A rule for slots of the network provider."""

    resource_name: str = SUB_ENI
    default_max_count: _Slots = 0
    node_selector: SelectorSpec = SelectorSpec()


class NicRuleConf(msgspec.Struct, frozen=True, rename="camel"):
    """A rule for slots of NICs; ``default_max_count`` 0 means ``NIC_SLOTS``."""

    default_max_count: _Slots = 0
    node_selector: SelectorSpec = SelectorSpec()
    include_interfaces: _Patterns = ()
    exclude_interfaces: _Patterns = ()


class SubEniConf(msgspec.Struct, frozen=True):
    """Slots of the network provider."""

    rules: Annotated[tuple[SubEniRuleConf, ...], msgspec.Meta(max_length=RULES_MAX)] = ()


class NicConf(msgspec.Struct, frozen=True):
    """Slots of NICs."""

    rules: Annotated[tuple[NicRuleConf, ...], msgspec.Meta(max_length=RULES_MAX)] = ()


class AdvertisementConf(
    msgspec.Struct, frozen=True, rename={"sub_eni": "subENI", "nics": "masterNIC"}
):
    """The advertised resources."""

    sub_eni: SubEniConf = SubEniConf()
    nics: NicConf = NicConf()


class AffinityConf(msgspec.Struct, frozen=True, rename="camel"):
    """Selects the nodes on which the device plugin runs."""

    node_selector: SelectorSpec = SelectorSpec()


class DevicePluginConf(msgspec.Struct, frozen=True, rename="camel"):
    """The device plugin."""

    enabled: bool = False
    kubelet_root_dir: str = ""
    device_plugin_affinity: AffinityConf = AffinityConf()
    resource_advertisement: AdvertisementConf = AdvertisementConf()


class AgentConf(msgspec.Struct, frozen=True, rename={"devices": "networkResourcePlugin"}):
    """The keys under ``agent``."""

    devices: DevicePluginConf = DevicePluginConf()


class DeviceSettings(NamedTuple):
    """The settings of the device plugin.

    ``kubelet``: kubelet's root directory. ``vf_prefix``: the prefix of resource names of
    virtual functions; "" for none. ``rdma_config``: the file of shared RDMA devices; None for none.
    """

    rules: DeviceRules
    kubelet: Path = Path(KUBELET_DIRECTORY)
    vf_prefix: str = ""
    rdma_config: Path | None = None


def device_settings(
    conf: DevicePluginConf, *, has_provider: bool, vf_prefix: str = "", rdma_config: str = ""
) -> DeviceSettings | None:
    """The settings of the device plugin. Raises BadInput.

    None if slots (``conf.enabled``), virtual functions and shared RDMA devices are all disabled.
    Without ``has_provider``, rules for slots of the network provider are ignored.
    """
    kubelet = kubelet_directory(conf.kubelet_root_dir)
    rules = _rules(conf, has_provider=has_provider) if conf.enabled else DeviceRules()
    if not (conf.enabled or vf_prefix or rdma_config):
        return None
    return DeviceSettings(rules, kubelet, vf_prefix, Path(rdma_config) if rdma_config else None)


def _rules(conf: DevicePluginConf, *, has_provider: bool) -> DeviceRules:
    advertisement = conf.resource_advertisement
    sub_eni = tuple(
        _sub_eni_rule(rule, f"{_ADVERTISEMENT_KEY}.subENI.rules[{index}]")
        for index, rule in enumerate(advertisement.sub_eni.rules)
    )
    nics = tuple(
        _nic_rule(rule, f"{_ADVERTISEMENT_KEY}.masterNIC.rules[{index}]")
        for index, rule in enumerate(advertisement.nics.rules)
    )
    selector = conf.device_plugin_affinity.node_selector
    nodes = _nodes(selector, f"{_KEY}.devicePluginAffinity.nodeSelector")
    return DeviceRules(nodes, sub_eni if has_provider else (), nics)


def _sub_eni_rule(rule: SubEniRuleConf, path: str) -> SubEniRule:
    resource = rule.resource_name or SUB_ENI
    if fault := resource_fault(resource):
        raise BadInput(
            f"{path}.resourceName: {fault}",
            subject=f"{path}.resourceName",
            remedy=f"use a name such as {SUB_ENI}",
        )
    nodes = _nodes(rule.node_selector, f"{path}.nodeSelector")
    return SubEniRule(resource, rule.default_max_count, nodes)


def _nic_rule(rule: NicRuleConf, path: str) -> NicRule:
    for field, patterns in (
        ("includeInterfaces", rule.include_interfaces),
        ("excludeInterfaces", rule.exclude_interfaces),
    ):
        check_patterns(patterns, f"{path}.{field}")
    return NicRule(
        rule.default_max_count or NIC_SLOTS,
        _nodes(rule.node_selector, f"{path}.nodeSelector"),
        rule.include_interfaces,
        rule.exclude_interfaces,
    )


def _nodes(spec: SelectorSpec, path: str) -> LabelSelector:
    selector = selector_of(spec)
    for problem in problems(selector, path):
        raise BadInput(
            f"{problem.path}: {problem.message}",
            subject=problem.path,
            remedy="correct this label selector",
        )
    return selector


def check_patterns(patterns: Iterable[str], key: str) -> None:
    """Raise BadInput for the first malformed pattern."""
    for pattern in patterns:
        try:
            globs.match(pattern, "")
        except globs.BadPattern as error:
            raise BadInput(f"{key}: {error}", subject=key, remedy="correct the pattern") from None


def kubelet_directory(root: str) -> Path:
    """Kubelet's root directory: ``root``, or the default for "". Raises BadInput."""
    path = Path(root or KUBELET_DIRECTORY)
    if not path.is_absolute():
        raise BadInput(
            f"{_KEY}.kubeletRootDir: {root!r} is not an absolute path",
            subject=f"{_KEY}.kubeletRootDir",
            remedy=f"set it to kubelet's root directory, usually {KUBELET_DIRECTORY}",
        )
    return path
