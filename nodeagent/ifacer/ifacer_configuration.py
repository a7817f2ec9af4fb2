"""Reads the network configuration of ``ifacer``.

See docs/reference/cni-configuration.md, "ifacer". The node's links are not checked here.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import msgspec

from core.errors import BadInput
from nodeagent.cni_protocol.cni_call import INTERFACE_CHARACTERS_MAX, checked_interface
from nodeagent.cni_protocol.failures import INCOMPATIBLE_VERSION, INVALID_CONFIG, CniFailure
from nodeagent.cni_protocol.netconf import CNI_VERSIONS, field_first, normalized, read_document
from nodeagent.ifacer.bond_options import BondOptions, read_options

IFACER_VERSIONS: Final = ("0.1.0", "0.2.0", *CNI_VERSIONS)
BOND_NAME: Final = "sp_bond0"
BOND_MODE_MAX: Final = 6
VLAN_MAX: Final = 4_094
INTERFACES_MAX: Final = 64


class DesiredBond(NamedTuple):
    """A bond that the node must have."""

    name: str
    mode: int
    options: BondOptions = BondOptions()


class InterfaceConfig(NamedTuple):
    """The links that the node must have. ``vlan`` 0: no VLAN."""

    interfaces: tuple[str, ...]
    vlan: int = 0
    bond: DesiredBond | None = None

    @property
    def parent(self) -> str:
        return self.interfaces[0] if self.bond is None else self.bond.name

    @property
    def vlan_name(self) -> str:
        return f"{self.parent}.{self.vlan}"


class IfacerConf(NamedTuple):
    """A network configuration. ``links`` None: nothing to create.

    ``previous``: the result of an earlier plugin in the chain (prevResult).
    """

    cni_version: str
    links: InterfaceConfig | None
    previous: dict[str, Any] | None


class _Bond(msgspec.Struct, frozen=True):
    name: str = ""
    mode: Annotated[int, msgspec.Meta(ge=0, le=BOND_MODE_MAX)] = 0
    options: str = ""


class _Conf(
    msgspec.Struct,
    frozen=True,
    rename={"cni_version": "cniVersion", "vlan": "vlanID", "previous": "prevResult"},
):
    cni_version: str = "0.1.0"
    interfaces: Annotated[tuple[str, ...], msgspec.Meta(max_length=INTERFACES_MAX)] = ()
    vlan: int = 0
    bond: _Bond | None = None
    previous: dict[str, Any] | None = None


_NAMES: Final = {name.lower(): name for name in _Conf.__struct_encode_fields__}
_BOND_NAMES: Final = {name: name for name in _Bond.__struct_encode_fields__}


def read_conf(stdin: bytes) -> IfacerConf:
    """Parse the standard input of a call. Raises CniFailure with code 1, 6 or 7."""
    document = normalized(read_document(stdin), _NAMES)
    if isinstance(document.get("bond"), dict):
        document["bond"] = normalized(document["bond"], _BOND_NAMES)
    try:
        conf = msgspec.convert(document, _Conf)
    except msgspec.ValidationError as error:
        raise CniFailure(INVALID_CONFIG, field_first(error)) from None
    if conf.cni_version not in IFACER_VERSIONS:
        raise CniFailure(
            INCOMPATIBLE_VERSION,
            f"incompatible CNI versions: cniVersion is {conf.cni_version[:64]!r}",
            f"plugin supports {list(IFACER_VERSIONS)}",
        )
    return IfacerConf(conf.cni_version, _interface_config(conf), conf.previous)


def _interface_config(conf: _Conf) -> InterfaceConfig | None:
    if not conf.interfaces:
        raise CniFailure(INVALID_CONFIG, "interfaces: at least one master interface is needed")
    if not 0 <= conf.vlan <= VLAN_MAX:
        text = f"vlanID {conf.vlan}: vlan tag must be in range [0,{VLAN_MAX}]"
        raise CniFailure(INVALID_CONFIG, text)
    names = [_name("interfaces", name) for name in conf.interfaces]
    repeated_name = next((name for name in names if names.count(name) > 1), "")
    if repeated_name:
        raise CniFailure(INVALID_CONFIG, f"interfaces: {repeated_name} is named twice")
    if len(names) == 1:
        config = InterfaceConfig(tuple(names), conf.vlan)
    elif conf.bond is None:
        return None
    else:
        config = InterfaceConfig(tuple(names), conf.vlan, _bond(conf.bond))
    if not conf.vlan and config.bond is None:
        return None
    if conf.vlan and len(config.vlan_name) > INTERFACE_CHARACTERS_MAX:
        limit = f"more than {INTERFACE_CHARACTERS_MAX} characters"
        text = f"interface name {config.vlan_name} has {limit}"
        raise CniFailure(INVALID_CONFIG, text, "give the bond a shorter name, or rename the NIC")
    return config


def _bond(bond: _Bond) -> DesiredBond:
    try:
        options = read_options(bond.options)
    except BadInput as error:
        raise CniFailure(INVALID_CONFIG, error.message, error.remedy) from None
    return DesiredBond(_name("bond.name", bond.name or BOND_NAME), bond.mode, options)


def _name(field: str, name: str) -> str:
    try:
        return checked_interface(name)
    except CniFailure as failure:
        _, _, text = failure.message.partition(" ")  # without "CNI_IFNAME" at the beginning
        raise CniFailure(INVALID_CONFIG, f"{field} {text}", failure.details) from None
