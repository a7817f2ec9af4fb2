"""Settings: sources, precedence, and errors that name the key."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from core.domain.roce_qos.qos_model import RoceQos, RoceQosRule
from core.errors import BadInput
from core.process import spans
from core.settings.shared_settings import CONF_PATH, add_daemon_options, conf_path
from core.settings.sriov import SriovSettings
from nodeagent.clusterip.clusterip_setup import ClusterIpSettings
from nodeagent.settings.agent_settings import Settings
from nodeagent.settings.settings_loader import (
    load_settings,
)

NODE = {"SPIDERPOOL_NODE_NAME": "node-1"}

FULL_CONF = """
ipamUnixSocketPath: /run/orbweaver/a.sock
enableIPv4: true
enableIPv6: false
enableStatefulSet: false
enableSpiderSubnet: true
enableAutoPoolForApplication: true
enableIPConflictDetection: true
enableGatewayDetection: true
enableKubevirtStaticIP: true
tuneSysctlConfig: true
iaasNetworkProvider: {serverUrl: ""}
orbweaver:
  cluster: lab
  etcd:
    endpoints: ["10.0.0.1:2379", "https://10.0.0.2:2379"]
    caFile: CERTS/ca.pem
    certFile: CERTS/agent.pem
    keyFile: CERTS/agent.key
    user: agent
    passwordFile: CERTS/password
  addressOrder: sequential
  coolDownSeconds: 0
  listenAddress: 0.0.0.0
  clusterIP: {enabled: true, cgroup: /sys/fs/cgroup/pods, bpffs: /run/bpf, hostNetwork: true}
  tracesEndpoint: http://collector:4317
"""


def load(directory: Path, text: str = "", **variables: str) -> Settings:
    path = directory / "conf.yml"
    path.write_text(text)
    return load_settings(str(path), NODE | variables)


def test_settings_are_the_defaults_if_only_the_node_name_is_given(tmp_path: Path) -> None:
    settings = load_settings(str(tmp_path / "absent.yml"), NODE)

    assert settings == Settings("node-1")
    assert settings.socket_path == "/var/run/spidernet/spiderpool.sock"
    assert settings.framed_socket_path == "/var/run/spidernet/spiderpool.sock.fast"
    assert (settings.health_port, settings.metrics_port) == (5710, 5711)
    assert settings.listen_address == "127.0.0.1"
    assert settings.records_max == 5000
    assert (settings.metrics_enabled, settings.rdma_metrics_enabled) == (False, False)
    assert settings.selection.subnets_enabled


def test_sequential_order_has_no_cool_down_by_default(tmp_path: Path) -> None:
    assert load(tmp_path).cool_down_s == 30
    assert load(tmp_path, ORBWEAVER_ADDRESS_ORDER="sequential").cool_down_s == 0
    settings = load(tmp_path, "orbweaver: {addressOrder: sequential, coolDownSeconds: 7}")
    assert settings.cool_down_s == 7


def test_the_default_node_name_is_the_host_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "rack-7")

    assert load_settings(str(tmp_path / "absent.yml"), {}).node_name == "rack-7"


def test_every_key_of_the_file_is_read(tmp_path: Path) -> None:
    for name in ("ca.pem", "agent.pem", "agent.key"):
        (tmp_path / name).touch()
    (tmp_path / "password").write_text("secret\n")

    settings = load(tmp_path, FULL_CONF.replace("CERTS", str(tmp_path)))

    assert settings.socket_path == "/run/orbweaver/a.sock"
    assert settings.selection.ipv4_enabled
    assert not settings.selection.ipv6_enabled
    assert settings.selection.subnets_enabled
    assert settings.selection.auto_pools_enabled
    assert not settings.fixed_addresses.stateful_sets
    assert settings.detect_conflicts
    assert settings.detect_gateway
    assert settings.cluster == "lab"
    assert settings.etcd.endpoints == ("10.0.0.1:2379", "https://10.0.0.2:2379")
    assert settings.etcd.ca_file == f"{tmp_path}/ca.pem"
    assert settings.etcd.password == "secret"
    assert "secret" not in repr(settings)
    assert (settings.address_order, settings.cool_down_s) == ("sequential", 0)
    assert settings.listen_address == "0.0.0.0"
    assert settings.otlp_endpoint == "http://collector:4317"
    assert settings.cluster_ip == ClusterIpSettings(
        enabled=True, cgroup="/sys/fs/cgroup/pods", bpffs="/run/bpf", host_network=True
    )


def test_sriov_is_enabled_only_by_its_setting(tmp_path: Path) -> None:
    sriov = "orbweaver: {sriov: {enabled: true, nodeSelector: {network: sriov}, drain: false}}"

    assert load(tmp_path).sriov is None
    settings = load(tmp_path, sriov, ORBWEAVER_SYSFS="/host/sys")

    assert settings.sriov == SriovSettings(
        resource_prefix="spidernet.io", nodes={"network": "sriov"}, drain=False
    )
    assert settings.sysfs == Path("/host/sys")


def test_roce_qos_has_only_the_rules_of_the_setting(tmp_path: Path) -> None:
    assert load(tmp_path).roce_qos == ()
    assert load(tmp_path, "orbweaver: {roceQos: [{}]}").roce_qos == (RoceQosRule(RoceQos()),)


def test_a_reserved_resource_prefix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="that Kubernetes reserves") as refused:
        load(tmp_path, "orbweaver: {sriov: {enabled: true, resourcePrefix: kubernetes.io}}")

    assert refused.value.subject == "orbweaver.sriov.resourcePrefix"


def test_variables_take_precedence_over_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "ipamUnixSocketPath: /run/file.sock\norbweaver: {cluster: file, coolDownSeconds: 9}\n",
        ORBWEAVER_CLUSTER="variable",
        ORBWEAVER_SOCKET_PATH="/run/variable.sock",
        ORBWEAVER_ETCD_ENDPOINTS="a:1, b:2",
        ORBWEAVER_COOL_DOWN_SECONDS="7",
        ORBWEAVER_ADDRESS_ORDER="sequential",
        ORBWEAVER_LISTEN_ADDRESS="::1",
        ORBWEAVER_ETCD_USER="root",
        ORBWEAVER_ETCD_PASSWORD="hush",
        ORBWEAVER_CLUSTER_IP="true",
        ORBWEAVER_CLUSTER_IP_CGROUP="/sys/fs/cgroup/p",
        ORBWEAVER_CLUSTER_IP_BPFFS="/run/b",
        ORBWEAVER_CLUSTER_IP_HOST_NETWORK="true",
    )

    assert settings.cluster == "variable"
    assert settings.socket_path == "/run/variable.sock"
    assert settings.etcd.endpoints == ("a:1", "b:2")
    assert (settings.etcd.user, settings.etcd.password) == ("root", "hush")
    assert (settings.cool_down_s, settings.address_order) == (7, "sequential")
    assert settings.cluster_ip == ClusterIpSettings(
        enabled=True, cgroup="/sys/fs/cgroup/p", bpffs="/run/b", host_network=True
    )
    assert settings.listen_address == "::1"


def test_kubeconfig_is_none_without_kubernetes_variables(tmp_path: Path) -> None:
    def kubeconfig_of(**variables: str) -> str | None:
        return load_settings(str(tmp_path / "none"), NODE | variables).kubeconfig

    assert kubeconfig_of() is None
    assert kubeconfig_of(ORBWEAVER_KUBERNETES="false") is None
    assert kubeconfig_of(ORBWEAVER_KUBERNETES="true") == ""
    assert (
        kubeconfig_of(ORBWEAVER_KUBECONFIG="/etc/kube", ORBWEAVER_KUBERNETES="true") == "/etc/kube"
    )


def test_the_coordinator_name_is_default_unless_set_or_disabled(tmp_path: Path) -> None:
    """Spiderpool's code misspells the variable: DEAFULT_NAME."""

    def name(**variables: str) -> str:
        return load_settings(str(tmp_path / "none"), NODE | variables).coordinator_name

    assert name() == "default"
    assert name(SPIDERPOOL_COORDINATOR_DEAFULT_NAME="mine") == "mine"
    assert name(SPIDERPOOL_COORDINATOR_DEFAULT_NAME="documented") == "documented"
    both = {
        "SPIDERPOOL_COORDINATOR_DEFAULT_NAME": "documented",
        "SPIDERPOOL_COORDINATOR_DEAFULT_NAME": "mine",
    }
    assert name(**both) == "documented"
    assert name(SPIDERPOOL_COORDINATOR_ENABLED="true") == "default"
    assert name(SPIDERPOOL_COORDINATOR_ENABLED="false") == ""
    with pytest.raises(BadInput, match="SPIDERPOOL_COORDINATOR_DEAFULT_NAME"):
        name(SPIDERPOOL_COORDINATOR_DEAFULT_NAME="a,b")


def test_the_variables_of_spiderpool_are_read(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        SPIDERPOOL_POD_NAMESPACE=" spiderpool ",
        SPIDERPOOL_LOG_LEVEL="DEBUG",
        SPIDERPOOL_HEALTH_PORT="6000",
        SPIDERPOOL_METRIC_HTTP_PORT="6001",
        SPIDERPOOL_ENABLED_METRIC="T",
        SPIDERPOOL_ENABLED_RDMA_METRIC="1",
        SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS="0",
        SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS="10",
        SPIDERPOOL_WAIT_SUBNET_POOL_TIME_IN_SECOND="3",
        SPIDERPOOL_WAIT_SUBNET_POOL_MAX_RETRIES="4",
        MULTUS_CLUSTER_NETWORK="kube-system/macvlan",
    )

    assert settings.selection.agent_namespace == "spiderpool"
    assert settings.selection.multus_namespace == "kube-system"
    assert settings.selection.multus_cluster_network == "kube-system/macvlan"
    assert settings.log_level == "debug"
    assert (settings.health_port, settings.metrics_port) == (6000, 6001)
    assert (settings.metrics_enabled, settings.rdma_metrics_enabled) == (True, True)
    assert not settings.release_conflicts
    assert settings.records_max == 10
    assert settings.pool_wait_s == 12.0, "3 s times 4 retries"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("enableIPv4: 1", "enableIPv4"),
        ("enableIPv4: false\nenableIPv6: false", "enableIPv4"),
        ("ipamUnixSocketPath: [a]", "ipamUnixSocketPath"),
        ("orbweaver: []", "orbweaver"),
        ("orbweaver: {clutser: lab}", "orbweaver"),
        ("orbweaver: {cluster: a/b}", "orbweaver.cluster"),
        ("orbweaver: {addressOrder: random}", "orbweaver.addressOrder"),
        ("orbweaver: {coolDownSeconds: -1}", "orbweaver.coolDownSeconds"),
        ("orbweaver: {listenAddress: everywhere}", "orbweaver.listenAddress"),
        ("orbweaver: {etcd: {endpoints: []}}", "orbweaver.etcd.endpoints"),
        ("orbweaver: {etcd: {endpoints: ['']}}", "orbweaver.etcd.endpoints"),
        ("orbweaver: {etcd: {password: x}}", "orbweaver.etcd"),
        ("orbweaver: {etcd: {certFile: /dev/null}}", "orbweaver.etcd.certFile"),
        ("orbweaver: {etcd: {caFile: /absent}}", "orbweaver.etcd.caFile"),
        ("orbweaver: {etcd: {user: root}}", "orbweaver.etcd.passwordFile"),
        ("orbweaver: {etcd: {user: a, passwordFile: /absent}}", "orbweaver.etcd.passwordFile"),
        ("- a list", "the document"),
    ],
)
def test_the_error_names_the_key_of_an_invalid_value(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(BadInput) as refused:
        load(tmp_path, text)

    assert refused.value.subject == key


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ORBWEAVER_ADDRESS_ORDER", "random"),
        ("ORBWEAVER_CLUSTER", "a/b"),
        ("ORBWEAVER_ETCD_ENDPOINTS", "a:1,,b:2"),
        ("ORBWEAVER_ETCD_CERT_FILE", "/dev/null"),
        ("ORBWEAVER_ETCD_CA_FILE", "/absent"),
    ],
)
def test_the_error_names_the_variable_of_an_invalid_value(
    tmp_path: Path, variable: str, value: str
) -> None:
    with pytest.raises(BadInput) as refused:
        load(tmp_path, **{variable: value})

    assert refused.value.subject == variable


def test_the_listen_address_is_the_ipv6_loopback_without_ipv4(tmp_path: Path) -> None:
    assert load(tmp_path, "enableIPv4: false").listen_address == "::1"


def test_the_error_names_a_file_that_is_not_yaml(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not YAML") as refused:
        load(tmp_path, "{")

    assert refused.value.subject == str(tmp_path / "conf.yml")


def test_a_file_with_a_value_that_contains_an_alias_of_itself_is_refused(tmp_path: Path) -> None:
    for text in ("a: &a {b: *a}", "a: &a [*a]"):
        with pytest.raises(BadInput, match="contains an alias of itself") as refused:
            load(tmp_path, text)

        assert refused.value.subject == str(tmp_path / "conf.yml")


def test_an_empty_key_in_a_list_item_has_its_default(tmp_path: Path) -> None:
    text = "orbweaver: {roceQos: [{trust: }]}"
    assert load(tmp_path, text).roce_qos == (RoceQosRule(RoceQos()),)


def test_a_file_with_only_comments_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing\norbweaver:\n") == Settings("node-1")


def test_a_file_above_the_size_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has more than 1048576 bytes"):
        load(tmp_path, "#" * ((1 << 20) + 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPIDERPOOL_NODE_NAME", ""),
        ("SPIDERPOOL_NODE_NAME", "a/b"),
        ("SPIDERPOOL_POD_NAMESPACE", " "),
        ("SPIDERPOOL_HEALTH_PORT", ""),
        ("SPIDERPOOL_HEALTH_PORT", "65536"),
        ("SPIDERPOOL_METRIC_HTTP_PORT", "-1"),
        ("SPIDERPOOL_ENABLED_METRIC", "yes"),
        ("SPIDERPOOL_ENABLED_RDMA_METRIC", "on"),
        ("SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS", ""),
        ("SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS", "many"),
        ("SPIDERPOOL_LOG_LEVEL", "loud"),
        ("ORBWEAVER_COOL_DOWN_SECONDS", "1.5"),
        ("ORBWEAVER_LISTEN_ADDRESS", "everywhere"),
    ],
)
def test_the_error_names_an_invalid_variable(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(BadInput) as refused:
        load(tmp_path, **{name: value})

    assert refused.value.subject == name


def test_a_number_with_thousands_of_digits_is_read_or_refused(tmp_path: Path) -> None:
    zeros = "0" * 5_000
    assert load(tmp_path, SPIDERPOOL_HEALTH_PORT=f"{zeros}80").health_port == 80
    with pytest.raises(BadInput) as refused:
        load(tmp_path, SPIDERPOOL_HEALTH_PORT=f"1{zeros}")

    assert refused.value.subject == "SPIDERPOOL_HEALTH_PORT"


def test_a_traces_endpoint_without_exporter_module_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spans, "EXPORTER_MODULE", "orbweaver_has_no_such_module")

    with pytest.raises(BadInput, match=r"\[otlp\]") as refused:
        spans.otlp_tracer("http://collector:4317", "orbweaver-agent", "node-1")

    assert refused.value.subject == "orbweaver.tracesEndpoint"


def test_an_invalid_provider_url_is_refused(tmp_path: Path) -> None:
    good = load(tmp_path, "iaasNetworkProvider: {serverUrl: 'https://iaas.example:8443'}")
    assert good.provider is not None
    assert good.provider.server_url == "https://iaas.example:8443"
    with pytest.raises(BadInput) as refused:
        load(tmp_path, "iaasNetworkProvider: {serverUrl: ftp://iaas.example}")

    assert refused.value.subject == "iaasNetworkProvider.serverUrl"


def test_the_command_line_options_of_spiderpool_select_the_conf_file() -> None:
    def path(*arguments: str) -> str:
        parser = argparse.ArgumentParser()
        add_daemon_options(parser)
        return conf_path(parser.parse_args(arguments))

    assert path() == path("daemon") == CONF_PATH
    assert path("daemon", "--config-dir", "/etc/conf") == "/etc/conf/conf.yml"
    assert path("--config-path", "/etc/own.yml") == "/etc/own.yml"
    with pytest.raises(SystemExit):
        path("--config-path", "/etc/own.yml", "--config-dir", "/etc")


COLLECTOR = "http://collector:4317"


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR}, COLLECTOR),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://metrics:4317",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": COLLECTOR,
            },
            COLLECTOR,
        ),
        (
            {
                "ORBWEAVER_TRACES_ENDPOINT": COLLECTOR,
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://metrics:4317",
            },
            COLLECTOR,
        ),
        ({"ORBWEAVER_TRACES_ENDPOINT": COLLECTOR, "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, ""),
    ],
)
def test_the_traces_endpoint_comes_from_orbweavers_or_opentelemetrys_variables(
    tmp_path: Path, variables: dict[str, str], endpoint: str
) -> None:
    assert load(tmp_path, **variables).otlp_endpoint == endpoint


def test_an_unknown_exporter_of_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="zipkin"):
        load(tmp_path, OTEL_TRACES_EXPORTER="zipkin")
