"""The coordinator's settings (docs/reference/coordinator.md, "Inputs").

The network configuration overrides the cluster, which overrides built-in values. Lists are not
merged: the first list that is not empty is used.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, NamedTuple, Protocol

import msgspec

from core.domain.addresses.ip_address import (
    Address,
    AddressSyntaxError,
    Cidr,
    parse_address_as_written,
    parse_cidr_as_written,
)
from core.errors import BadInput
from core.manifests.kinds.coordinators import DetectOptions
from core.manifests.networks.detect_options import DetectionTiming, read_timing
from nodeagent.coordinator.pod_annotations import DEFAULT_ROUTE_NIC
from nodeagent.netlink.values import host_prefix

MODES: Final = ("auto", "underlay", "overlay", "disable")
DISABLED: Final = "disabled"
"""The spelling of the mode ``disable`` in the CRD. Spiderpool's plugin rejects this spelling."""

NETWORKS_MAX: Final = 256
TABLE_MAX: Final = 0xFFFFFFFF
RESERVED_TABLES: Final = (0, 253, 254, 255)
"""The kernel's tables unspec, default, main, local (include/uapi/linux/rtnetlink.h)."""

MTU_MAX: Final = 65_535
QUEUE_PACKETS_MAX: Final = 1 << 20
NAME_CHARACTERS_MAX: Final = 15

_MAC_PREFIX: Final = re.compile(r"([0-9a-fA-F][02468aceACE])[:-]([0-9a-fA-F]{2})\Z")
_Text = Annotated[str, msgspec.Meta(max_length=256)]
_Networks = Annotated[tuple[_Text, ...], msgspec.Meta(max_length=NETWORKS_MAX)]


class UnparsedRoute(msgspec.Struct, frozen=True):
    """An entry of ``policyRoutes`` before parsing."""

    dst: _Text = ""
    gw: _Text = ""


class UnparsedSettings(
    msgspec.Struct,
    frozen=True,
    rename={
        "tune_pod_routes": "tunePodRoutes",
        "pod_default_route_nic": "podDefaultRouteNic",
        "pod_default_cni_nic": "podDefaultCniNic",
        "pod_mac_prefix": "podMACPrefix",
        "overlay_pod_cidr": "overlayPodCIDR",
        "service_cidr": "serviceCIDR",
        "hijack_cidr": "hijackCIDR",
        "hijack_further_nics": "hijackFurtherNics",
        "policy_routes": "policyRoutes",
        "host_rule_table": "hostRuleTable",
        "pod_rp_filter": "podRPFilter",
        "host_rp_filter": "hostRPFilter",
        "tx_queue_len": "txQueueLen",
        "veth_link_address": "vethLinkAddress",
        "veth_mtu": "vethMTU",
        "detect_ip_conflict": "detectIPConflict",
        "detect_gateway": "detectGateway",
        "detect_options": "detectOptions",
        "rdma_isolation": "rdmaIsolation",
    },
):
    """The settings of one source. A field with None, "" or () is not set."""

    mode: _Text = ""
    tune_pod_routes: bool | None = None
    pod_default_route_nic: _Text = ""
    pod_default_cni_nic: _Text = ""
    pod_mac_prefix: _Text = ""
    overlay_pod_cidr: _Networks = ()
    service_cidr: _Networks = ()
    hijack_cidr: _Networks = ()
    hijack_further_nics: bool | None = None
    policy_routes: Annotated[tuple[UnparsedRoute, ...], msgspec.Meta(max_length=NETWORKS_MAX)] = ()
    host_rule_table: int | None = None
    pod_rp_filter: int | None = None
    host_rp_filter: int | None = None
    tx_queue_len: int | None = None
    veth_link_address: _Text = ""
    veth_mtu: int | None = None
    detect_ip_conflict: bool | None = None
    detect_gateway: bool | None = None
    detect_options: DetectOptions | None = None
    rdma_isolation: bool | None = None


BUILT_IN: Final = UnparsedSettings(
    mode="auto",
    tune_pod_routes=True,
    pod_default_cni_nic="eth0",
    hijack_further_nics=True,
    host_rule_table=500,
    pod_rp_filter=0,
    tx_queue_len=0,
    veth_mtu=1500,
    detect_ip_conflict=False,
    detect_gateway=False,
    rdma_isolation=False,
)


class NicPolicyRoute(NamedTuple):
    """A route of ``policyRoutes``."""

    destination: Cidr
    gateway: Address


class CoordinatorSettings(NamedTuple):
    """The valid settings of one call.

    ``hijacked``: networks that the Pod reaches through the node. ``hijack_further_nics``: whether
    the tables of further NICs get routes to ``hijacked`` too. ``rp_filter``, ``host_rp_filter``:
    sysctls of the Pod and the node; None leaves them unchanged.
    """

    mode: str
    tune_pod_routes: bool
    default_route_nic: str
    first_nic: str
    mac_prefix: bytes
    hijacked: tuple[Cidr, ...]
    hijack_further_nics: bool
    policy_routes: tuple[NicPolicyRoute, ...]
    host_table: int
    rp_filter: int | None
    host_rp_filter: int | None
    tx_queue_len: int
    veth_address: Address | None
    veth_mtu: int
    detection: DetectionTiming
    rdma_isolation: bool = False


class CoordinatorDefaults(Protocol):
    """The source of fields that the network configuration does not set.

    Without Kubernetes, the source is conf.yml. In Kubernetes, fields of the SpiderCoordinator
    override conf.yml.
    """

    async def load(self) -> None:
        """Wait for the first answer of the source, for a limited time."""
        ...

    def current_settings(self) -> UnparsedSettings:
        """The current settings. Raises NotReady while the SpiderCoordinator is not Synced."""
        ...


class ConfiguredSettings(CoordinatorDefaults):
    """The settings of conf.yml."""

    def __init__(self, settings: UnparsedSettings) -> None:
        self._settings = settings

    async def load(self) -> None:
        """Do nothing: the settings are complete."""

    def current_settings(self) -> UnparsedSettings:
        return self._settings


_NAMES: Final = {field.lower(): field for field in UnparsedSettings.__struct_encode_fields__}


def read_settings(document: dict[str, Any]) -> UnparsedSettings:
    """The settings of a JSON object with case-insensitive names. Raises BadInput."""
    members = {
        _NAMES.get(key.lower(), key): value for key, value in document.items() if value is not None
    }
    try:
        return msgspec.convert(members, UnparsedSettings)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        field = path.strip("`").removeprefix("$.")
        raise BadInput(f"{field}: {text[:1].lower()}{text[1:]}", subject=field) from None


def effective_settings(
    network: UnparsedSettings, cluster: UnparsedSettings, default_route_nic: str = ""
) -> CoordinatorSettings:
    """Merge and parse the settings of a call. Raises BadInput.

    ``default_route_nic``: the NIC in the Pod's annotation, or "".
    """
    merged_settings = merge_settings(network, cluster)
    mode = "disable" if merged_settings.mode == DISABLED else merged_settings.mode
    if mode not in MODES:
        raise _invalid("mode", f"unknown mode {mode!r}", f"set one of {', '.join(MODES)}")
    veth_address = None
    if merged_settings.veth_link_address:
        veth_address = _address("vethLinkAddress", merged_settings.veth_link_address)
        if not veth_address.value:
            # The kernel accepts this address, but does not set it.
            raise _invalid("vethLinkAddress", f"{veth_address} must not be unspecified")
    return CoordinatorSettings(
        mode=mode,
        tune_pod_routes=bool(merged_settings.tune_pod_routes),
        default_route_nic=(
            _nic(DEFAULT_ROUTE_NIC, default_route_nic, "correct this annotation of the Pod")
            or _nic("podDefaultRouteNic", merged_settings.pod_default_route_nic)
        ),
        first_nic=_nic("podDefaultCniNic", merged_settings.pod_default_cni_nic),
        mac_prefix=_mac_prefix(merged_settings.pod_mac_prefix),
        hijacked=(
            *_networks("overlayPodCIDR", merged_settings.overlay_pod_cidr),
            *_networks("serviceCIDR", merged_settings.service_cidr),
            *_networks("hijackCIDR", merged_settings.hijack_cidr),
        ),
        hijack_further_nics=bool(merged_settings.hijack_further_nics),
        policy_routes=tuple(_policy_route(route) for route in merged_settings.policy_routes),
        host_table=_table(merged_settings.host_rule_table),
        rp_filter=_rp_filter("podRPFilter", merged_settings.pod_rp_filter),
        host_rp_filter=_rp_filter("hostRPFilter", merged_settings.host_rp_filter),
        tx_queue_len=_number("txQueueLen", merged_settings.tx_queue_len, 0, QUEUE_PACKETS_MAX),
        veth_address=veth_address,
        veth_mtu=_number("vethMTU", merged_settings.veth_mtu, 1, MTU_MAX),
        detection=read_timing(merged_settings.detect_options or DetectOptions()),
        rdma_isolation=bool(merged_settings.rdma_isolation),
    )


def validate_settings(settings: UnparsedSettings) -> None:
    """Raise BadInput if a field is invalid."""
    effective_settings(settings, UnparsedSettings())


def merge_settings(*sources: UnparsedSettings) -> UnparsedSettings:
    """For each field, the value of the first source that sets it, or the built-in value."""
    fields = {}
    for name in UnparsedSettings.__struct_fields__:
        values = [getattr(source, name) for source in (*sources, BUILT_IN)]
        # 0 counts as set, except for the table and the MTU.
        empty: tuple[object, ...] = (None, "", ())
        if name in ("host_rule_table", "veth_mtu"):
            empty = (*empty, 0)
        # ``False in (0,)`` is true, but False counts as set.
        set_values = [value for value in values if value not in empty or value is False]
        fields[name] = set_values[0] if set_values else values[-1]
    return UnparsedSettings(**fields)


def _networks(field: str, texts: tuple[str, ...]) -> tuple[Cidr, ...]:
    return tuple(_network(field, text) for text in texts)


def _network(field: str, text: str) -> Cidr:
    stripped_text = text.strip()
    try:
        if "/" in stripped_text:
            return parse_cidr_as_written(stripped_text)
        return host_prefix(parse_address_as_written(stripped_text))
    except AddressSyntaxError as error:
        raise _invalid(field, str(error)) from None


def _address(field: str, text: str) -> Address:
    try:
        return parse_address_as_written(text.strip())
    except AddressSyntaxError as error:
        raise _invalid(field, str(error)) from None


def _policy_route(route: UnparsedRoute) -> NicPolicyRoute:
    # Users search for Spiderpool's text "invalid route ...".
    destination = _network("invalid route dst", route.dst)
    gateway = _address("invalid route gw", route.gw)
    if destination.family != gateway.family:
        text = f"policyRoutes: {route.dst} via {route.gw} must use the same IP family"
        raise BadInput(text, subject="policyRoutes", remedy="correct dst or gw of this route")
    return NicPolicyRoute(destination, gateway)


def _mac_prefix(text: str) -> bytes:
    if not text:
        return b""
    match = _MAC_PREFIX.match(text)
    if match is None:
        message = f"{text!r} is not two bytes of a unicast MAC address"
        raise _invalid("podMACPrefix", message, "set two bytes such as 0a:1b")
    return bytes.fromhex("".join(match.groups()))


def _rp_filter(field: str, value: int | None) -> int | None:
    """With None or a negative value, the sysctl is not changed."""
    if value is None or value < 0:
        return None
    return _number(field, value, 0, 2)


def _table(value: int | None) -> int:
    table = _number("hostRuleTable", value, 1, TABLE_MAX)
    if table in RESERVED_TABLES:
        raise _invalid(
            "hostRuleTable", f"{table} is reserved for the kernel (default, main, local)"
        )
    return table


def _number(field: str, value: int | None, low: int, high: int) -> int:
    if value is None or not low <= value <= high:
        raise _invalid(field, f"{value} is not between {low} and {high}")
    return value


def _nic(field: str, name: str, remedy: str = "set the name of a NIC of the Pod") -> str:
    if len(name) > NAME_CHARACTERS_MAX or "/" in name or any(map(str.isspace, name)):
        raise _invalid(field, f"{name[:64]!r} is not an interface name", remedy)
    return name


def _invalid(field: str, message: str, remedy: str = "") -> BadInput:
    return BadInput(f"{field}: {message}", subject=field, remedy=remedy)
