"""The network configuration: the fields that an IPAM plugin reads.

As in Go's JSON package, member names are case-insensitive, null counts as absent, and unknown
members are ignored.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from core.domain.addresses.ip_address import AddressSyntaxError, parse_cidr
from core.manifests.schema_errors import JSON_ERRORS
from nodeagent.cni_protocol.failures import (
    INCOMPATIBLE_VERSION,
    INVALID_CONFIG,
    UNDECODABLE_CODE,
    CniFailure,
)

CNI_VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST_CNI_VERSION: Final = CNI_VERSIONS[-1]
WITHOUT_CHECK: Final = ("0.3.0", "0.3.1")
WITHOUT_GC_AND_STATUS: Final = CNI_VERSIONS[:-1]
WITH_FAMILIES: Final = ("0.3.0", "0.3.1", "0.4.0")
"""In results of these versions, every address has a ``version``: "4" or "6"."""

NAME_CHARACTERS_MAX: Final = 253
"""The longest DNS subdomain (RFC 1123)."""

LOG_LEVELS: Final = ("debug", "info", "warn", "error", "fatal", "panic")
POOLS_MAX: Final = 256

ATTACHMENTS_MAX: Final = 20_000
"""One request frame holds about this number of attachments."""

CACHED_MAX: Final = 64
"""Configurations are cached: a runtime sends the same bytes for every Pod of a network."""

CACHED_BYTES_MAX: Final = 16_384

is_name: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{NAME_CHARACTERS_MAX - 1}}}").fullmatch
"""Match a name of a Pod, namespace or network, a UID, or a container id."""

NAME_HELP: Final = (
    f"use at most {NAME_CHARACTERS_MAX} letters, digits, '.', '_' and '-', the first a letter or"
    " digit"
)

_Name = Annotated[str, msgspec.Meta(max_length=253)]
_PoolNames = Annotated[tuple[_Name, ...], msgspec.Meta(max_length=POOLS_MAX)]
_Path = Annotated[str, msgspec.Meta(max_length=4096)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]


class IpamConf(msgspec.Struct, frozen=True):
    """The ``ipam`` object. A ``log_file_max_...`` of 0 is not set.

    See docs/reference/cni-configuration.md, "spiderpool".
    """

    type: str = ""
    log_level: str = "debug"
    log_file_path: _Path = ""
    log_file_max_size: _Count = 0
    log_file_max_age: _Count = 0
    log_file_max_count: _Count = 0
    default_ipv4_ippool: _PoolNames = ()
    default_ipv6_ippool: _PoolNames = ()
    clean_gateway: bool = False
    match_master_subnet: bool = False
    ipam_unix_socket_path: _Path = ""


class ValidAttachment(msgspec.Struct, frozen=True, rename={"container_id": "containerID"}):
    """An attachment that the runtime lists as valid."""

    container_id: str = ""
    ifname: str = ""


_Attachments = Annotated[tuple[ValidAttachment, ...], msgspec.Meta(max_length=ATTACHMENTS_MAX)]


class NetConf(
    msgspec.Struct,
    frozen=True,
    rename={
        "cni_version": "cniVersion",
        "previous": "prevResult",
        "valid_attachments": "cni.dev/valid-attachments",
        "attachments": "cni.dev/attachments",
    },
):
    """A network configuration. ``previous``: prevResult."""

    cni_version: str = "0.1.0"
    name: str = ""
    ipam: IpamConf = IpamConf()
    previous: dict[str, Any] | None = None
    valid_attachments: _Attachments | None = None
    attachments: _Attachments | None = None


class PreviousAddress(NamedTuple):
    """An address of prevResult. ``interface`` and the unchecked ``gateway`` can be ""."""

    cidr: str
    interface: str
    gateway: str


SEND_JSON: Final = "send the network configuration as a JSON object on standard input"

_NETCONF_NAMES: Final = {name.lower(): name for name in NetConf.__struct_encode_fields__}
_LOG_COUNTS: Final = ("log_file_max_size", "log_file_max_age", "log_file_max_count")
_DIGITS_MAX: Final = 10

_IPAM_NAMES: Final = {name.lower(): name for name in IpamConf.__struct_encode_fields__}
_ATTACHMENT_NAMES: Final = {name.lower(): name for name in ValidAttachment.__struct_encode_fields__}
_cache: dict[bytes, NetConf] = {}


def read_netconf(data: bytes) -> NetConf:
    """Read and check a configuration. Raises CniFailure with code 1, 6 or 7."""
    cached_conf = _cache.get(data)
    if cached_conf is not None:
        return cached_conf
    conf = _read(data)
    if len(data) <= CACHED_BYTES_MAX and conf.previous is None:
        if len(_cache) >= CACHED_MAX:
            _cache.clear()
        _cache[bytes(data)] = conf
    return conf


def version_in(data: bytes) -> str:
    """The CNI version of a configuration; if absent or unsupported, the latest.

    Never fails, because every error object needs a version.
    """
    try:
        document = msgspec.json.decode(data)
    except JSON_ERRORS:
        return LATEST_CNI_VERSION
    version = document.get("cniVersion") if isinstance(document, dict) else None
    return version if isinstance(version, str) and version in CNI_VERSIONS else LATEST_CNI_VERSION


def previous_addresses(previous: dict[str, Any]) -> list[PreviousAddress]:
    """The addresses of a prevResult. Raises CniFailure with code 7."""
    interfaces = previous.get("interfaces") or []
    entries = previous.get("ips") or []
    if not isinstance(entries, list) or not isinstance(interfaces, list):
        raise _invalid("prevResult.ips and prevResult.interfaces must be lists")
    return [_previous_address(entry, interfaces) for entry in entries]


def _previous_address(entry: object, interfaces: list[Any]) -> PreviousAddress:
    if not isinstance(entry, dict) or not isinstance(entry.get("address"), str):
        raise _invalid("prevResult.ips: each entry needs an address")
    try:
        parsed = parse_cidr(entry["address"])
    except AddressSyntaxError as error:
        raise _invalid(f"prevResult.ips: {error}") from None
    index = entry.get("interface")
    name = ""
    if isinstance(index, int) and 0 <= index < len(interfaces):
        interface = interfaces[index]
        name = interface.get("name", "") if isinstance(interface, dict) else ""
    return PreviousAddress(parsed.text_with_host_bits(), str(name), str(entry.get("gateway") or ""))


def read_document(data: bytes) -> dict[str, Any]:
    """The members of a configuration, unchecked. Raises CniFailure with code 6."""
    try:
        document = msgspec.json.decode(data)
    except JSON_ERRORS as error:
        text = f"the network configuration is not JSON: {error}"
        raise CniFailure(UNDECODABLE_CODE, text, SEND_JSON) from None
    if not isinstance(document, dict):
        text = "the network configuration is not a JSON object"
        raise CniFailure(UNDECODABLE_CODE, text, SEND_JSON)
    return document


def _read(data: bytes) -> NetConf:
    document = normalized(read_document(data), _NETCONF_NAMES)
    if isinstance(document.get("ipam"), dict):
        document["ipam"] = _with_numbers(normalized(document["ipam"], _IPAM_NAMES))
    for name in ("cni.dev/valid-attachments", "cni.dev/attachments"):
        if isinstance(document.get(name), list):
            document[name] = [_normalized_attachment(entry) for entry in document[name]]
    try:
        conf = msgspec.convert(document, NetConf)
    except msgspec.ValidationError as error:
        raise _invalid(field_first(error)) from None
    _check(conf)
    return conf


def _check(conf: NetConf) -> None:
    if conf.cni_version not in CNI_VERSIONS:
        raise CniFailure(
            INCOMPATIBLE_VERSION,
            f"incompatible CNI versions: cniVersion is {conf.cni_version[:64]!r}",
            f"plugin supports {list(CNI_VERSIONS)}",
        )
    if not conf.name:
        raise _invalid("missing network name", "set name in the network configuration")
    if not is_name(conf.name):
        raise _invalid(f"invalid characters in network name {conf.name[:64]!r}", NAME_HELP)
    if conf.ipam.log_level.lower() not in LOG_LEVELS:
        raise _invalid(
            f"ipam.log_level {conf.ipam.log_level[:64]!r} is not a level",
            f"use one of {', '.join(LOG_LEVELS)}",
        )


def normalized(document: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Remove null members, and correct the case of names.

    ``names`` maps each lowercase name to the known name.
    """
    members = {names.get(key.lower(), key): value for key, value in document.items()}
    return {key: value for key, value in members.items() if value is not None}


def _with_numbers(ipam: dict[str, Any]) -> dict[str, Any]:
    """Convert log limits from text: Spiderpool's documentation has "100" in quotes."""
    texts = {name: ipam[name] for name in _LOG_COUNTS if isinstance(ipam.get(name), str)}
    numbers = {
        name: int(text)
        for name, text in texts.items()
        if len(text) <= _DIGITS_MAX and text.isascii() and text.isdecimal()
    }
    return ipam | numbers


def _normalized_attachment(entry: object) -> object:
    return normalized(entry, _ATTACHMENT_NAMES) if isinstance(entry, dict) else entry


def field_first(error: msgspec.ValidationError) -> str:
    """The text of an error with the field first; msgspec puts it last."""
    text, _, path = str(error).partition(" - at ")
    field = path.strip("`").removeprefix("$").removeprefix(".")
    text = text[:1].lower() + text[1:]
    return f"{field}: {text}" if field else text


def _invalid(what: str, details: str = "") -> CniFailure:
    return CniFailure(INVALID_CONFIG, what, details)
