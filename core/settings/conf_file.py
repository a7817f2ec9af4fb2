"""The schema of conf.yml: Spiderpool's keys, and our own under ``orbweaver``.

Unknown top-level keys are ignored, because other processes read the file too; unknown keys under
``orbweaver`` are refused. A missing key has the default of the chart. See
docs/reference/configuration.md, "conf.yml".
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from core.domain.addresses.choice import AddressOrder
from core.errors import BadInput
from core.settings.device_plugin import AgentConf
from core.settings.roce_qos import RULES_MAX, RoceQosConf
from core.settings.sriov import SriovConf

CONF_BYTES_MAX: Final = 1 << 20

ENDPOINTS_MAX: Final = 32

COOL_DOWN_S_MAX: Final = 86_400

CLUSTER_KEYS: Final = {
    "endpoints": "orbweaver.etcd.endpoints",
    "ca_file": "orbweaver.etcd.caFile",
    "cert_file": "orbweaver.etcd.certFile",
    "key_file": "orbweaver.etcd.keyFile",
    "user": "orbweaver.etcd.user",
    "password_file": "orbweaver.etcd.passwordFile",
    "cluster": "orbweaver.cluster",
}
"""Name in ``CLUSTER_VARIABLES`` -> the key of conf.yml, for errors."""

_Endpoints = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=ENDPOINTS_MAX)]


class EtcdConf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The connection to etcd. ``password_file`` names the file with the password."""

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
    """The network provider. ``core.allocation.provider_settings`` parses both values."""

    server_url: str = ""
    request_timeout: str = ""


class InjectConf(
    msgspec.Struct,
    frozen=True,
    rename={"exclude": "namespacesExclude", "include": "namespacesInclude"},
):
    """The Pod webhook, and the namespaces whose Pods it changes."""

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
    """The keys under ``orbweaver``."""

    cluster: str = ""
    etcd: EtcdConf = EtcdConf()
    address_order: AddressOrder | None = None
    cool_down_seconds: Annotated[int, msgspec.Meta(ge=0, le=COOL_DOWN_S_MAX)] | None = None
    announce_addresses: bool = True
    ipam_claims: bool = False
    listen_address: str = ""
    traces_endpoint: str = ""
    provider_ca_file: str = ""
    provider_verify_tls: bool = True
    cluster_ip: ClusterIpConf = msgspec.field(default=ClusterIpConf(), name="clusterIP")
    sriov: SriovConf = SriovConf()
    rdma_config_file: str = ""
    rdma_mode: str = ""
    roce_qos: Annotated[tuple[RoceQosConf, ...], msgspec.Meta(max_length=RULES_MAX)] = ()
    coordinator: dict[str, Any] = {}
    """Default coordinator settings of networks, as fields of a SpiderCoordinator's spec."""


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
    """The keys of conf.yml."""

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
    """Read conf.yml, or return the defaults if the file does not exist. Raises BadInput."""
    try:
        with path.open("rb") as file:
            text = file.read(CONF_BYTES_MAX + 1)
    except FileNotFoundError:
        return ConfFile()
    except OSError as error:
        raise BadInput(
            f"cannot read {path}: {error.strerror}",
            subject=str(path),
            remedy="check the path and its permissions",
        ) from error
    if len(text) > CONF_BYTES_MAX:
        raise BadInput(
            f"{path} has more than {CONF_BYTES_MAX} bytes",
            subject=str(path),
            remedy="remove keys and comments that are not needed",
        )
    return parse_conf(text, str(path))


def parse_conf(text: bytes, path: str) -> ConfFile:
    """Parse the content of conf.yml. Raises BadInput; its subject is the key or the path."""
    import yaml  # noqa: PLC0415  # not needed without a file

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(
            f"{path} is not YAML: {error}", subject=path, remedy="correct the YAML syntax"
        ) from None
    if document is None:
        return ConfFile()
    try:
        return msgspec.convert(_without_null(document), ConfFile)
    except RecursionError:
        raise BadInput(
            f"{path}: a YAML value contains an alias of itself",
            subject=path,
            remedy="remove this alias",
        ) from None
    except msgspec.ValidationError as error:
        what, _, location = str(error).partition(" - at ")
        key = location.strip("`").removeprefix("$").removeprefix(".") or "the document"
        remedy = "correct this key" if location.strip("`$") else "write it as KEY: VALUE lines"
        raise BadInput(f"{path}: {key}: {what}", subject=key, remedy=remedy) from None


def _without_null(value: object) -> object:
    """Remove keys without a value: in YAML, ``key:`` means an absent key."""
    if isinstance(value, dict):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    return value
