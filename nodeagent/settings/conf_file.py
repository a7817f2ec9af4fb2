"""conf.yml: the keys that we obey, and ours under ``orbweaver``.

See docs/reference/configuration.md, "conf.yml".

A key that is not said has the chart's default; unknown keys of the upper level are ignored as the
Spiderpool does (the file is shared with other processes), unknown ones under ``orbweaver`` are
refused, being typing errors. Every fault names its key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from core.domain.addresses.choice import AddressOrder
from core.errors import BadInput
from nodeagent.settings.devices import AgentConf

CONF_BYTES_MAX: Final = 1 << 20
ENDPOINTS_MAX: Final = 32
COOL_DOWN_S_MAX: Final = 86_400

_Endpoints = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=ENDPOINTS_MAX)]


class EtcdConf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where etcd is and who we are to it; the password is read from a file, never written here."""

    endpoints: _Endpoints | None = None
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    user: str = ""
    password_file: str = ""


class ProviderConf(
    msgspec.Struct,
    frozen=True,
    rename={"server_url": "serverUrl", "request_timeout": "httpRequestTimeout"},
):
    """The network provider; both as texts, for ``core.allocation.provider_settings`` to read."""

    server_url: str = ""
    request_timeout: str = ""


class InjectConf(
    msgspec.Struct,
    frozen=True,
    rename={"exclude": "namespacesExclude", "include": "namespacesInclude"},
):
    """The Pod webhook: whether there is one, and for which namespaces."""

    enabled: bool = False
    exclude: tuple[str, ...] = ("kube-system", "spiderpool", "metallb-system", "istio-system")
    include: tuple[str, ...] = ()


class ClusterIpConf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """ClusterIPs for sockets of Pods, without kube-proxy (docs/concepts/clusterip.md)."""

    enabled: bool = False
    cgroup: str = ""
    bpffs: str = ""
    host_network: bool = False


class OrbweaverConf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Our own keys."""

    cluster: str = ""
    etcd: EtcdConf = EtcdConf()
    address_order: AddressOrder | None = None
    cool_down_seconds: Annotated[int, msgspec.Meta(ge=0, le=COOL_DOWN_S_MAX)] | None = None
    announce_addresses: bool = True
    listen_address: str = ""
    traces_endpoint: str = ""
    provider_ca_file: str = ""
    provider_verify_tls: bool = True
    cluster_ip: ClusterIpConf = msgspec.field(default=ClusterIpConf(), name="clusterIP")
    coordinator: dict[str, Any] = {}
    """What network configurations need not say, in the words of a SpiderCoordinator's spec."""


class ConfFile(
    msgspec.Struct,
    frozen=True,
    rename={
        "socket_path": "ipamUnixSocketPath",
        "ipv4": "enableIPv4",
        "ipv6": "enableIPv6",
        "stateful_sets": "enableStatefulSet",
        "vms": "enableKubevirtStaticIP",
        "outdated_endpoints": "enableCleanOutdatedEndpoint",
        "subnets": "enableSpiderSubnet",
        "auto_pools": "enableAutoPoolForApplication",
        "redundant_number": "clusterSubnetAutoPoolDefaultRedundantIPNumber",
        "flexible_number": "clusterSubnetDefaultFlexibleIPNumber",
        "detect_conflicts": "enableIPConflictDetection",
        "detect_gateway": "enableGatewayDetection",
        "guards_deletion": "enableValidatingResourcesDeletedWebhook",
        "tune_sysctls": "tuneSysctlConfig",
        "provider": "iaasNetworkProvider",
        "inject": "podResourceInject",
    },
):
    """conf.yml."""

    socket_path: str = ""
    ipv4: bool = True
    ipv6: bool = True
    stateful_sets: bool = True
    vms: bool = True
    outdated_endpoints: bool = False
    subnets: bool = True
    auto_pools: bool = True
    redundant_number: int | None = None
    flexible_number: int | None = None
    detect_conflicts: bool = False
    detect_gateway: bool = False
    guards_deletion: bool = False
    tune_sysctls: bool = False
    provider: ProviderConf = ProviderConf()
    inject: InjectConf = InjectConf()
    agent: AgentConf = AgentConf()
    orbweaver: OrbweaverConf = OrbweaverConf()


def read_conf(path: Path) -> ConfFile:
    """The file; one that is not there says nothing. Raises BadInput with the key as its subject."""
    try:
        with path.open("rb") as file:
            text = file.read(CONF_BYTES_MAX + 1)
    except FileNotFoundError:
        return ConfFile()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", subject=str(path)) from error
    if len(text) > CONF_BYTES_MAX:
        raise BadInput(f"{path} has more than {CONF_BYTES_MAX} bytes", subject=str(path))
    return parse_conf(text, str(path))


def parse_conf(text: bytes, path: str) -> ConfFile:
    """The content of conf.yml. Raises BadInput."""
    import yaml  # noqa: PLC0415  # most standalone agents have variables and no file

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path} is not YAML: {error}", subject=path) from None
    if document is None:
        return ConfFile()
    try:
        return msgspec.convert(_said(document), ConfFile)
    except msgspec.ValidationError as error:
        text_, _, place = str(error).partition(" - at ")
        key = place.strip("`").removeprefix("$").removeprefix(".") or "the document"
        raise BadInput(f"{path}: {key}: {text_}", subject=key, remedy="correct this key") from None


def _said(value: object) -> object:
    """Without the keys that have no value: YAML's ``key:`` says nothing."""
    if isinstance(value, dict):
        return {key: _said(inner) for key, inner in value.items() if inner is not None}
    return value
