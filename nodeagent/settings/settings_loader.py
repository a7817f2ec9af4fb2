"""Reads the settings from conf.yml and the environment.

Variables named ORBWEAVER_* override the file. No other module of the agent reads configuration
files or environment variables.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from core.allocation.allocation_limit import RECORD_LIMIT_DEFAULT
from core.domain.fixed.fixed_address_owners import FixedSettings
from core.domain.selection.selection_request import SelectionSettings
from core.errors import BadInput
from core.eventstore.etcd import EtcdSettings
from core.eventstore.etcd.settings_checks import ETCD_ENDPOINT, Access, etcd_settings
from core.eventstore.keys import check_name
from core.process.environment import (
    CLUSTER_VARIABLES,
    COORDINATOR_NAMES,
    ETCD_PASSWORD,
    ETCD_VARIABLES,
    MULTUS_NAMESPACE,
    EnvironmentVariables,
)
from core.settings.conf_file import CLUSTER_KEYS, ClusterIpConf, ConfFile, EtcdConf, read_conf
from core.settings.device_plugin import device_settings
from core.settings.rdma_mode import rdma_mode
from core.settings.roce_qos import roce_qos_rules
from core.settings.shared_settings import (
    address_order,
    cool_down_s,
    provider_of,
    traces_endpoint,
)
from core.settings.sriov import sriov_settings
from nodeagent.clusterip.clusterip_setup import ClusterIpSettings
from nodeagent.clusterip.pod_cgroups import BPFFS
from nodeagent.coordinator.settings import UnparsedSettings, read_settings, validate_settings
from nodeagent.settings.agent_settings import (
    DEFAULT_CLUSTER,
    DEFAULT_COORDINATOR,
    DEFAULT_NAMESPACE,
    HEALTH_PORT,
    LISTEN_ADDRESS,
    METRICS_PORT,
    PLUGIN_LOG_PATH,
    SOCKET_PATH,
    Settings,
)
from nodeagent.sriov_master_addresses import SYSFS

RECORD_LIMIT_MAX: Final = 1 << 31

POOL_PAUSE_S_MAX: Final = 3_600
POOL_RETRIES_MAX: Final = 10_000


def load_settings(conf_path: str, variables: Mapping[str, str]) -> Settings:
    """The settings of this process. Raises BadInput with the key or variable as its subject."""
    conf = read_conf(Path(conf_path))
    env = EnvironmentVariables(variables)
    if not (conf.ipv4 or conf.ipv6):
        raise BadInput(
            "enableIPv4 and enableIPv6 are both false",
            subject="enableIPv4",
            remedy="set one of them to true",
        )
    orbweaver, provider = conf.orbweaver, provider_of(conf)
    sriov = sriov_settings(orbweaver.sriov, conf.agent.devices.kubelet_root_dir)
    return Settings(
        node_name=_node_name(
            env.text("SPIDERPOOL_NODE_NAME", socket.gethostname(), refuse_empty=True)
        ),
        cluster=_cluster(orbweaver.cluster, env),
        etcd=_etcd(orbweaver.etcd, env),
        socket_path=env.text("ORBWEAVER_SOCKET_PATH", conf.socket_path or SOCKET_PATH),
        selection=_selection(conf, env),
        fixed_addresses=FixedSettings(conf.stateful_sets, conf.vms, conf.orbweaver.ipam_claims),
        detect_conflicts=conf.detect_conflicts,
        detect_gateway=conf.detect_gateway,
        tune_sysctls=conf.tune_sysctls,
        release_conflicts=env.boolean(
            "SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS", default=True, refuse_empty=True
        ),
        announce_addresses=env.boolean(
            "ORBWEAVER_ANNOUNCE_ADDRESSES", default=orbweaver.announce_addresses
        ),
        records_max=_record_limit(env),
        pool_wait_s=_pool_wait(env),
        address_order=address_order(orbweaver, env),
        cool_down_s=cool_down_s(orbweaver, env),
        listen_address=_listen_address(orbweaver.listen_address or LISTEN_ADDRESS[conf.ipv4], env),
        health_port=env.port("SPIDERPOOL_HEALTH_PORT", HEALTH_PORT),
        metrics_enabled=env.boolean("SPIDERPOOL_ENABLED_METRIC", default=False),
        rdma_metrics_enabled=env.boolean("SPIDERPOOL_ENABLED_RDMA_METRIC", default=False),
        metrics_port=env.port("SPIDERPOOL_METRIC_HTTP_PORT", METRICS_PORT),
        log_level=env.level("SPIDERPOOL_LOG_LEVEL", "info"),
        plugin_log_path=env.text("ORBWEAVER_PLUGIN_LOG_PATH", PLUGIN_LOG_PATH),
        otlp_endpoint=traces_endpoint(orbweaver, env),
        coordinator=_coordinator(orbweaver.coordinator),
        coordinator_name=_coordinator_name(env),
        cluster_ip=_cluster_ip(orbweaver.cluster_ip, env),
        kubeconfig=env.kubeconfig(),
        provider=provider,
        devices=device_settings(
            conf.agent.devices,
            has_provider=provider is not None,
            vf_prefix=sriov.resource_prefix if sriov is not None else "",
            rdma_config=orbweaver.rdma_config_file,
        ),
        sriov=sriov,
        rdma_mode=rdma_mode(orbweaver.rdma_mode),
        roce_qos=roce_qos_rules(orbweaver.roce_qos),
        sysfs=Path(env.text("ORBWEAVER_SYSFS", str(SYSFS))),
    )


def _selection(conf: ConfFile, env: EnvironmentVariables) -> SelectionSettings:
    return SelectionSettings(
        ipv4_enabled=conf.ipv4,
        ipv6_enabled=conf.ipv6,
        subnets_enabled=conf.subnets,
        auto_pools_enabled=conf.auto_pools,
        multus_cluster_network=env.text("MULTUS_CLUSTER_NETWORK"),
        agent_namespace=env.text("SPIDERPOOL_POD_NAMESPACE", DEFAULT_NAMESPACE, refuse_empty=True),
        multus_namespace=env.text(MULTUS_NAMESPACE, DEFAULT_NAMESPACE, refuse_empty=True),
    )


def _coordinator(conf: dict[str, Any]) -> UnparsedSettings:
    try:
        settings = read_settings(conf)
        validate_settings(settings)
    except BadInput as error:
        error.subject = f"orbweaver.coordinator.{error.subject}"
        raise
    return settings


def _coordinator_name(env: EnvironmentVariables) -> str:
    if not env.boolean("SPIDERPOOL_COORDINATOR_ENABLED", default=True):
        return ""
    name, variable = env.first(COORDINATOR_NAMES, DEFAULT_COORDINATOR)
    return check_name(name, variable)


def _cluster_ip(conf: ClusterIpConf, env: EnvironmentVariables) -> ClusterIpSettings:
    return ClusterIpSettings(
        env.boolean("ORBWEAVER_CLUSTER_IP", default=conf.enabled),
        env.text("ORBWEAVER_CLUSTER_IP_CGROUP", conf.cgroup),
        env.text("ORBWEAVER_CLUSTER_IP_BPFFS", conf.bpffs or BPFFS),
        env.boolean("ORBWEAVER_CLUSTER_IP_HOST_NETWORK", default=conf.host_network),
    )


def _etcd(conf: EtcdConf, env: EnvironmentVariables) -> EtcdSettings:
    file = {
        "endpoints": ",".join(conf.endpoints or (ETCD_ENDPOINT,)),
        **{name: getattr(conf, name) for name in Access._fields[1:]},  # without endpoints
    }
    values = env.texts(ETCD_VARIABLES, file)
    access = Access(*(values[name] for name in Access._fields))
    names = Access(
        *(env.name_of(ETCD_VARIABLES[name], CLUSTER_KEYS[name]) for name in Access._fields)
    )
    return etcd_settings(access, env.text(ETCD_PASSWORD), names)


def _cluster(file_value: str, env: EnvironmentVariables) -> str:
    variable = CLUSTER_VARIABLES["cluster"]
    name = env.name_of(variable, CLUSTER_KEYS["cluster"])
    return check_name(env.text(variable, file_value or DEFAULT_CLUSTER), name)


def _node_name(name: str) -> str:
    return check_name(name, "SPIDERPOOL_NODE_NAME")


def _record_limit(env: EnvironmentVariables) -> int:
    name = "SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS"
    return env.number(name, RECORD_LIMIT_DEFAULT, RECORD_LIMIT_MAX)


def _pool_wait(env: EnvironmentVariables) -> float:
    pause_s = env.number("SPIDERPOOL_WAIT_SUBNET_POOL_TIME_IN_SECOND", 2, POOL_PAUSE_S_MAX)
    retries = env.number("SPIDERPOOL_WAIT_SUBNET_POOL_MAX_RETRIES", 25, POOL_RETRIES_MAX)
    return float(pause_s * retries)


def _listen_address(in_file: str, env: EnvironmentVariables) -> str:
    variable = env.text("ORBWEAVER_LISTEN_ADDRESS")
    address = variable or in_file
    try:
        return str(ip_address(address))
    except ValueError:
        raise BadInput(
            f"{address[:64]!r} is not an address",
            subject="ORBWEAVER_LISTEN_ADDRESS" if variable else "orbweaver.listenAddress",
            remedy="use 127.0.0.1 to serve only this host, 0.0.0.0 or :: to serve all hosts",
        ) from None
