"""The settings of a controller: docs/reference/configuration.md, "Controller".

An environment variable overrides conf.yml.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from core.allocation.cooldown import COOL_DOWN_S
from core.allocation.provider_settings import ProviderSettings
from core.archive.pruner import ARCHIVE_BYTES_MAX, Retention
from core.domain.autopools.pool_size import (
    FLEXIBLE_NUMBER_KEY,
    REDUNDANT_NUMBER_KEY,
    AutoPoolSettings,
    default_number,
)
from core.domain.reclaim.settings import RECLAIM_VARIABLES, ReclaimSettings
from core.errors import BadInput
from core.eventstore.election import LEASE_TTL_S
from core.eventstore.etcd.settings_checks import Access
from core.eventstore.keys import check_name
from core.manifests.networks.pod_slots import DEFAULT_NAMESPACE, SlotSettings
from core.process.environment import COORDINATOR_NAMES, MULTUS_NAMESPACE, EnvironmentVariables
from core.settings.conf_file import CLUSTER_KEYS, ConfFile, read_conf
from core.settings.device_plugin import device_settings
from core.settings.shared_settings import cool_down_s, provider_of, traces_endpoint
from core.settings.sriov import SriovSettings, sriov_settings
from ops.console.console_settings import ConsoleSettings, console_settings
from ops.kubernetes.settings import (
    WEBHOOK_PORT,
    CertificateFiles,
    CoordinatorReconcilerSettings,
    InjectionSettings,
    KubernetesSettings,
    LeaseSettings,
    SecretSettings,
    WebhookSettings,
)
from ops.settings import ClusterSettings, cluster_settings

HEALTH_PORT: Final = 5720
METRICS_PORT: Final = 5721
LISTEN_ADDRESS: Final = "127.0.0.1"
LEASE_TTL_S_MIN: Final = 2
"""etcd extends shorter leases to this TTL."""

LEASE_TTL_S_MAX: Final = 300

TLS_CERTIFICATE: Final = "ORBWEAVER_TLS_CERT_FILE"
TLS_KEY: Final = "ORBWEAVER_TLS_KEY_FILE"
"""Webhooks need these two files, or ``TLS_SECRET``."""

TLS_SECRET: Final = "ORBWEAVER_TLS_SECRET"  # noqa: S105  # the name of a variable
"""The variable with the name of a Secret, whose certificate the controllers issue."""

TLS_DIRECTORY: Final = "/run/orbweaver/tls"

NAMESPACE_VARIABLE: Final = "SPIDERPOOL_POD_NAMESPACE"

ARCHIVE_DAYS_MAX: Final = 36_500

RECLAIM_NUMBER_MAX: Final = 1_000_000
"""The limit of every number in the settings of reclaim."""


class ControllerSettings(NamedTuple):
    """The settings of a controller; a part that is None or "" is disabled.

    Port 0 means a free port. ``lease_ttl_s``: seconds until another replica replaces a lost leader.
    Replicas probe quarantined addresses on ``probe_interface``, and need ``sriov`` to drain nodes.
    ``namespace`` is the controller's.
    """

    name: str
    cluster: ClusterSettings
    listen_address: str = LISTEN_ADDRESS
    health_port: int = HEALTH_PORT
    metrics_enabled: bool = False
    debug_metrics_enabled: bool = False
    metrics_port: int = METRICS_PORT
    log_level: str = "info"
    lease_ttl_s: int = LEASE_TTL_S
    otlp_endpoint: str = ""
    reclaim: ReclaimSettings = ReclaimSettings()
    auto_pools: AutoPoolSettings = AutoPoolSettings()
    cool_down_s: int = COOL_DOWN_S
    provider: ProviderSettings | None = None
    kubernetes: KubernetesSettings | None = None
    probe_interface: str = ""
    retention: Retention = Retention()
    console: ConsoleSettings | None = None
    namespace: str = ""
    sriov: SriovSettings | None = None


def load_settings(conf_path: str, variables: Mapping[str, str]) -> ControllerSettings:
    """Raises BadInput; its subject is the name of the setting."""
    conf = read_conf(Path(conf_path))
    env = EnvironmentVariables(variables)
    name = env.text("SPIDERPOOL_POD_NAME", socket.gethostname(), refuse_empty=True)
    listen = env.text("ORBWEAVER_LISTEN_ADDRESS", conf.orbweaver.listen_address or LISTEN_ADDRESS)
    kubernetes = _kubernetes(conf, env)
    return ControllerSettings(
        name=check_name(name, "SPIDERPOOL_POD_NAME"),
        cluster=cluster_settings(
            variables, defaults=_cluster_defaults(conf), default_names=CLUSTER_KEYS
        ),
        listen_address=listen,
        health_port=env.port("SPIDERPOOL_HEALTH_PORT", HEALTH_PORT),
        metrics_enabled=env.boolean("SPIDERPOOL_ENABLED_METRIC", default=False),
        debug_metrics_enabled=env.boolean("SPIDERPOOL_ENABLED_DEBUG_METRIC", default=False),
        metrics_port=env.port("SPIDERPOOL_METRIC_HTTP_PORT", METRICS_PORT),
        log_level=env.level("SPIDERPOOL_LOG_LEVEL", "info"),
        lease_ttl_s=_lease_ttl_s(env),
        otlp_endpoint=traces_endpoint(conf.orbweaver, env),
        reclaim=_reclaim(conf, env),
        auto_pools=_auto_pools(conf),
        cool_down_s=cool_down_s(conf.orbweaver, env),
        provider=provider_of(conf),
        kubernetes=kubernetes,
        probe_interface=env.text("ORBWEAVER_PROBE_INTERFACE", ""),
        retention=_retention(env),
        console=console_settings(env, kubernetes, listen),
        namespace=env.text(NAMESPACE_VARIABLE),
        sriov=sriov_settings(conf.orbweaver.sriov),
    )


def _lease_ttl_s(env: EnvironmentVariables) -> int:
    """Orbweaver's variable overrides Spiderpool's."""
    default = env.number("SPIDERPOOL_LEADER_DURATION", LEASE_TTL_S, LEASE_TTL_S_MAX)
    seconds = env.number("ORBWEAVER_LEASE_TTL_SECONDS", default, LEASE_TTL_S_MAX)
    return max(LEASE_TTL_S_MIN, seconds)


def _kubernetes(conf: ConfFile, env: EnvironmentVariables) -> KubernetesSettings | None:
    """None in standalone mode."""
    kubeconfig = env.kubeconfig()
    if kubeconfig is None:
        return None
    networks = env.boolean("SPIDERPOOL_MULTUS_CONFIG_ENABLED", default=False)
    namespace = env.text(NAMESPACE_VARIABLE)
    lease = LeaseSettings(namespace, duration_s=_lease_ttl_s(env)) if namespace else None
    return KubernetesSettings(
        kubeconfig=kubeconfig,
        ipv4_enabled=conf.ipv4,
        ipv6_enabled=conf.ipv6,
        subnets_enabled=conf.subnets,
        webhook=_webhook(conf, env),
        networks=networks,
        coordinator=_coordinator(env),
        lease=lease,
        ipam_claims=conf.orbweaver.ipam_claims,
    )


def _coordinator(env: EnvironmentVariables) -> CoordinatorReconcilerSettings | None:
    """None if controllers do not write the status of the SpiderCoordinator."""
    if not env.boolean("SPIDERPOOL_COORDINATOR_ENABLED", default=False):
        return None
    default = CoordinatorReconcilerSettings()
    return CoordinatorReconcilerSettings(
        name=env.first(COORDINATOR_NAMES, default.name)[0],
        cni_directory=Path(env.text("SPIDERPOOL_CNI_CONFIG_DIR", str(default.cni_directory))),
        cilium=env.text("SPIDERPOOL_CILIUM_CONFIGMAP_NAMESPACE_NAME", default.cilium),
    )


def _webhook(conf: ConfFile, env: EnvironmentVariables) -> WebhookSettings | None:
    """None without a certificate."""
    certificate, key = env.text(TLS_CERTIFICATE), env.text(TLS_KEY)
    if bool(certificate) != bool(key):
        raise BadInput(
            "the webhooks need a certificate and its key, but only one is set",
            subject="tls-server-cert",
            remedy="set both --tls-server-cert and --tls-server-key",
        )
    secret = None if certificate else _secret(env)
    if secret is None and not certificate:
        return None
    return WebhookSettings(
        CertificateFiles(Path(certificate), Path(key)) if secret is None else secret.files,
        port=env.port("SPIDERPOOL_WEBHOOK_PORT", WEBHOOK_PORT),
        guards_deletion=conf.guards_deletion,
        injection=_injection(conf, env),
        secret=secret,
    )


def _injection(conf: ConfFile, env: EnvironmentVariables) -> InjectionSettings | None:
    """None if conf.yml disables the Pod webhook."""
    has_provider = provider_of(conf) is not None
    devices = device_settings(conf.agent.devices, has_provider=has_provider)
    if not conf.inject.enabled:
        return None
    slots = SlotSettings(default_network_namespace=env.text(MULTUS_NAMESPACE, DEFAULT_NAMESPACE))
    if devices is not None:
        provider_resource = next((rule.resource for rule in devices.rules.sub_eni), "")
        slots = slots._replace(
            request_nic_slots=bool(devices.rules.nics), provider_resource=provider_resource
        )
    return InjectionSettings(conf.inject.exclude, conf.inject.include, slots)


def _secret(env: EnvironmentVariables) -> SecretSettings | None:
    name = env.text(TLS_SECRET)
    if not name:
        return None
    namespace = env.text(NAMESPACE_VARIABLE, refuse_empty=True)
    if not namespace:
        raise BadInput(
            f"{TLS_SECRET} is set, but {NAMESPACE_VARIABLE} is not",
            subject=NAMESPACE_VARIABLE,
            remedy=f"set {NAMESPACE_VARIABLE} to the namespace of the controller and the Secret",
        )
    service = f"{env.text('ORBWEAVER_TLS_SERVICE', 'orbweaver-controller')}.{namespace}"
    domain = env.text("ORBWEAVER_TLS_DOMAIN", "cluster.local")
    extra_names = filter(None, env.text("ORBWEAVER_TLS_EXTRA_NAMES").split(","))
    return SecretSettings(
        name,
        namespace,
        names=(service, f"{service}.svc", f"{service}.svc.{domain}", *extra_names),
        directory=Path(env.text("ORBWEAVER_TLS_DIR", TLS_DIRECTORY)),
    )


def _auto_pools(conf: ConfFile) -> AutoPoolSettings:
    numbers = {
        REDUNDANT_NUMBER_KEY: conf.redundant_number,
        FLEXIBLE_NUMBER_KEY: conf.flexible_number,
    }
    return AutoPoolSettings(
        enabled=conf.subnets and conf.auto_pools,
        default_number=default_number(numbers),
        ipv4_enabled=conf.ipv4,
        ipv6_enabled=conf.ipv6,
    )


def _retention(env: EnvironmentVariables) -> Retention:
    """By default, only ``ARCHIVE_BYTES_MAX`` limits the archive."""
    days = env.number("ORBWEAVER_ARCHIVE_DAYS", 0, ARCHIVE_DAYS_MAX)
    mebibytes = env.number("ORBWEAVER_ARCHIVE_MEBIBYTES", ARCHIVE_BYTES_MAX >> 20, 1 << 30)
    return Retention(age_s=days * 86_400.0, bytes_max=mebibytes << 20)


def _reclaim(conf: ConfFile, env: EnvironmentVariables) -> ReclaimSettings:
    values: dict[str, bool | int | float] = {}
    for field, variable in RECLAIM_VARIABLES.items():
        default = getattr(ReclaimSettings(), field)
        if isinstance(default, bool):
            values[field] = env.boolean(variable, default=default)
        else:
            number = env.number(variable, int(default), RECLAIM_NUMBER_MAX)
            values[field] = type(default)(number)
    settings = ReclaimSettings(**values)  # type: ignore[arg-type]  # of the fields' types
    return settings._replace(
        stateful_sets=conf.stateful_sets,
        vms=conf.vms,
        ipam_claims=conf.orbweaver.ipam_claims,
        outdated_endpoints=conf.outdated_endpoints,
    )


def _cluster_defaults(conf: ConfFile) -> dict[str, str]:
    """The values of conf.yml for variables that are not set."""
    etcd = conf.orbweaver.etcd
    return {
        "endpoints": ",".join(etcd.endpoints or ()),
        **{name: getattr(etcd, name) for name in Access._fields if name != "endpoints"},
        "cluster": conf.orbweaver.cluster,
    }
