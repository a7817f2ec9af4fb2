"""Reads the configuration of shared RDMA devices, in the format of the RDMA shared device plugin.

    {"configList": [{"resourcePrefix": "spidernet.io", "resourceName": "shared_cx5_gpu1",
                     "rdmaHcaMax": 100, "selectors": {"ifNames": ["enp11s0f0np0"]}}]}

In the old format (Spiderpool 0.9 and older), the file has the fields of a single resource, and
commas separate its vendors and device ids. Unknown fields are refused: if a misspelt selector were
ignored, every device would match. ``periodicUpdateInterval`` has no effect: devices are read every
few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from core.domain.shared_rdma import RULES_MAX, SELECTOR_VALUES_MAX, RdmaSelectors, SharedRdmaRule
from core.domain.slots import RESOURCE_GROUP, SLOTS_MAX, resource_fault
from core.errors import BadInput

CONFIG_BYTES_MAX: Final = 1 << 20

_OLD_DEFAULT_NAME: Final = "hca_shared_devices"
_OLD_DEFAULT_SLOTS: Final = 500

_LINK_TYPES: Final = ("ether", "infiniband")

_Texts = Annotated[tuple[str | int, ...], msgspec.Meta(max_length=SELECTOR_VALUES_MAX)]
_Slots = Annotated[int, msgspec.Meta(ge=1, le=SLOTS_MAX)]


class RdmaSelectorsConf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Selects the devices that match all non-empty fields; one field at least must be set."""

    vendors: _Texts = ()
    device_ids: _Texts = msgspec.field(default=(), name="deviceIDs")
    drivers: _Texts = ()
    if_names: _Texts = ()
    link_types: _Texts = ()


class SharedRdmaConf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One resource; ``devices`` has names of interfaces, like ``selectors.ifNames``."""

    resource_name: str
    rdma_hca_max: _Slots
    resource_prefix: str = ""
    selectors: RdmaSelectorsConf = RdmaSelectorsConf()
    devices: _Texts = ()


class RdmaDevicesConf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The file, in the new or the old format."""

    periodic_update_interval: int = 0
    config_list: (
        Annotated[tuple[SharedRdmaConf, ...], msgspec.Meta(max_length=RULES_MAX)] | None
    ) = None
    resource_prefix: str = ""
    resource_name: str = ""
    rdma_hca_max: _Slots = _OLD_DEFAULT_SLOTS
    vendors: str | int = ""
    device_ids: str | int = msgspec.field(default="", name="deviceIDs")


def shared_rdma_rules(text: bytes) -> tuple[SharedRdmaRule, ...]:
    """The rules of a configuration file. Raises BadInput, whose subject is the wrong field."""
    if len(text) > CONFIG_BYTES_MAX:
        raise BadInput(
            f"the configuration of shared RDMA devices has more than {CONFIG_BYTES_MAX} bytes",
            subject="the file",
            remedy="shorten it",
        )
    try:
        conf = msgspec.json.decode(text, type=RdmaDevicesConf)
    except msgspec.DecodeError as error:
        message, _, path = str(error).partition(" - at ")
        raise BadInput(
            message,
            subject=path.strip("`").removeprefix("$.") or "the file",
            remedy="correct this field" if path else "correct the JSON of the file",
        ) from None
    items = conf.config_list if conf.config_list is not None else tuple(_old_item(conf))
    rules = tuple(_rule(item, f"configList[{number}]") for number, item in enumerate(items))
    names = [rule.resource for rule in rules]
    repeated_name = next((name for name in names if names.count(name) > 1), "")
    if repeated_name:
        raise BadInput(
            f"resource {repeated_name} occurs twice",
            subject="configList",
            remedy="rename one of them",
        )
    return rules


def _old_item(conf: RdmaDevicesConf) -> Iterator[SharedRdmaConf]:
    if conf.resource_name or conf.vendors or conf.device_ids:
        selectors = RdmaSelectorsConf(_split(conf.vendors), _split(conf.device_ids))
        name = conf.resource_name or _OLD_DEFAULT_NAME
        yield SharedRdmaConf(name, conf.rdma_hca_max, conf.resource_prefix, selectors)


def _split(value: str | int) -> tuple[str, ...]:
    return tuple(part.strip(' "') for part in str(value).split(",") if part.strip(' "'))


def _rule(item: SharedRdmaConf, path: str) -> SharedRdmaRule:
    resource = f"{item.resource_prefix or RESOURCE_GROUP}/{item.resource_name}"
    if fault := resource_fault(resource):
        raise BadInput(
            fault, subject=f"{path}.resourceName", remedy=f"use a name such as {_OLD_DEFAULT_NAME}"
        )
    conf = item.selectors
    selectors = RdmaSelectors(
        _lower(conf.vendors),
        _lower(conf.device_ids),
        tuple(map(str, conf.drivers)),
        tuple(map(str, (*conf.if_names, *item.devices))),
        _lower(conf.link_types),
    )
    if selectors.is_empty():
        raise BadInput(
            "no selector is set, so that every device would match",
            subject=f"{path}.selectors",
            remedy="set vendors, deviceIDs, drivers, ifNames or linkTypes",
        )
    for kind in selectors.link_types:
        if kind not in _LINK_TYPES:
            text = f"{kind[:40]!r} is not {' or '.join(_LINK_TYPES)}"
            raise BadInput(
                text, subject=f"{path}.selectors.linkTypes", remedy="use one of these types"
            )
    return SharedRdmaRule(resource, item.rdma_hca_max, selectors)


def _lower(values: tuple[str | int, ...]) -> tuple[str, ...]:
    return tuple(str(value).lower().removeprefix("0x") for value in values)
