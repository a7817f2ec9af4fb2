"""Rendering of values: golden files, and agreement with the installed code."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from core import __version__
from core.settings.conf_file import OrbweaverConf, parse_conf
from nodeagent.settings.settings_loader import load_settings as load_agent
from ops.controller.settings import load_settings as load_controller
from ops.kubernetes.admission.configurations import WebhookClientConfig, configurations
from ops.kubernetes.settings import InjectionSettings
from tests.chart.rendering import (
    CHART_FOLDER,
    CHART_NAMESPACE,
    GOLDEN_FOLDER,
    PROJECT_ROOT,
    VALUES_PROFILES,
    Object,
    dump_objects,
    find,
    objects,
    render,
    values_of,
)
from tests.support.yaml_reader import read_all_yaml, read_yaml


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Object]]:
    return {profile: objects(values_of(profile)) for profile in VALUES_PROFILES}


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_a_rendered_profile_equals_its_golden_file(
    profile: str, rendered: dict[str, list[Object]]
) -> None:
    golden = (GOLDEN_FOLDER / f"{profile}.yaml").read_text()

    assert dump_objects(rendered[profile]) == golden, (
        "run `python -m tests.chart.rendering`, and review the changes"
    )


def test_there_is_a_golden_file_for_each_profile() -> None:
    assert {path.stem for path in GOLDEN_FOLDER.iterdir()} == set(VALUES_PROFILES)


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_no_container_is_privileged_and_no_rule_has_a_wildcard(
    profile: str, rendered: dict[str, list[Object]]
) -> None:
    for rendered_object in rendered[profile]:
        for rule in rendered_object.get("rules") or ():
            assert "*" not in json.dumps(rule), (rendered_object["metadata"]["name"], rule)
        for container in containers(rendered_object):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"]["drop"] == ["ALL"]
            assert "privileged" not in context


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_only_the_agent_has_capabilities_and_runs_as_root(
    profile: str, rendered: dict[str, list[Object]]
) -> None:
    added = {
        container["name"]: container["securityContext"]["capabilities"]["add"]
        for rendered_object in rendered[profile]
        for container in containers(rendered_object)
        if "add" in container["securityContext"]["capabilities"]
    }

    if "clean" in added:
        has_programs = profile == "production"  # eBPF programs to detach
        assert added.pop("clean") == ["DAC_OVERRIDE", "NET_ADMIN"] + ["SYS_ADMIN"] * has_programs
    assert added == {"agent": ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"], "install": ["DAC_OVERRIDE"]}
    for rendered_object in rendered[profile]:
        if (pod := pod_of(rendered_object)) is not None and rendered_object["kind"] != "DaemonSet":
            assert pod["securityContext"]["runAsNonRoot"] is True


def test_the_charts_webhooks_equal_those_that_the_controller_serves() -> None:
    values = values_of("production")
    values["spiderpoolController"]["tls"] = {
        "method": "provided",
        "secretName": "mine",
        "caBundle": base64.b64encode(b"pem").decode(),
    }
    among = objects(values)
    client = WebhookClientConfig(b"pem", service="orbweaver-controller", namespace=CHART_NAMESPACE)
    injection = InjectionSettings((*InjectionSettings().exclude, CHART_NAMESPACE), ("shop",))

    for expected in configurations(client, guards_deletion=True, injection=injection):
        configuration = find(expected["kind"], expected["metadata"]["name"], among)
        assert configuration["webhooks"] == expected["webhooks"]


def test_disabled_kinds_have_no_webhook(rendered: dict[str, list[Object]]) -> None:
    found = find("ValidatingWebhookConfiguration", "spiderpool-controller", rendered["smallest"])

    assert [rendered_object["name"].partition(".")[0] for rendered_object in found["webhooks"]] == [
        "spiderippool",
        "spidersubnet",
        "spiderreservedip",
        "spiderippool-deletion",
        "spidersubnet-deletion",
    ]


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_agent_and_controller_load_the_charts_settings(
    profile: str, rendered: dict[str, list[Object]], tmp_path: Path
) -> None:
    among = rendered[profile]
    conf = tmp_path / "conf.yml"
    conf.write_text(find("ConfigMap", "spiderpool-conf", among)["data"]["conf.yml"])
    controller = variables(find("Deployment", "orbweaver-controller", among), tmp_path)
    agent = variables(find("DaemonSet", "orbweaver-agent", among), tmp_path)

    of_controller = load_controller(str(conf), controller)
    of_agent = load_agent(str(conf), agent)

    assert of_controller.cluster.etcd == of_agent.etcd
    assert of_controller.cluster.cluster == of_agent.cluster
    assert of_controller.kubernetes is not None
    assert of_controller.kubernetes.webhook is not None
    assert of_controller.kubernetes.lease is not None
    assert of_agent.kubeconfig == ""
    assert of_agent.tune_sysctls
    coordinator = of_controller.kubernetes.coordinator
    assert of_agent.coordinator_name == ("" if coordinator is None else coordinator.name)


class RecordingVariables(dict[str, str]):
    """Environment variables that record the names that a program reads."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables)
        self.names_read: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names_read.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names_read.add(name)
        return super().get(name, default)


OF_CONF_YML = {
    "ORBWEAVER_ADDRESS_ORDER",
    "ORBWEAVER_ANNOUNCE_ADDRESSES",
    "ORBWEAVER_COOL_DOWN_SECONDS",
    "ORBWEAVER_SOCKET_PATH",
    "ORBWEAVER_TRACES_ENDPOINT",
    *(f"ORBWEAVER_CLUSTER_IP{what}" for what in ("", "_CGROUP", "_BPFFS", "_HOST_NETWORK")),
}
"""Variables that take precedence over the chart's conf.yml."""

LEFT_TO_EXTRA_ENV = {
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "SPIDERPOOL_COORDINATOR_DEFAULT_NAME",
    "MULTUS_CLUSTER_NETWORK",
    "ORBWEAVER_ETCD_USER",
    "ORBWEAVER_ETCD_PASSWORD",
    "ORBWEAVER_ETCD_PASSWORD_FILE",
    "ORBWEAVER_KUBECONFIG",
    "ORBWEAVER_PLUGIN_LOG_PATH",
    "ORBWEAVER_SYSFS",
    "SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS",
    "SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS",
    "SPIDERPOOL_WAIT_SUBNET_POOL_TIME_IN_SECOND",
    "SPIDERPOOL_WAIT_SUBNET_POOL_MAX_RETRIES",
}
"""Variables of agents whose defaults are right, or that only some clusters need."""


def test_the_chart_sets_every_variable_that_an_agent_reads(
    rendered: dict[str, list[Object]], tmp_path: Path
) -> None:
    among = rendered["default"]
    conf = tmp_path / "conf.yml"
    conf.write_text(find("ConfigMap", "spiderpool-conf", among)["data"]["conf.yml"])
    chart_variables = RecordingVariables(
        variables(find("DaemonSet", "orbweaver-agent", among), tmp_path)
    )

    load_agent(str(conf), chart_variables)

    assert chart_variables.names_read - chart_variables.keys() <= OF_CONF_YML | LEFT_TO_EXTRA_ENV


def test_conf_yml_has_every_orbweaver_key_that_is_not_set_by_a_variable(
    rendered: dict[str, list[Object]],
) -> None:
    text = find("ConfigMap", "spiderpool-conf", rendered["production"])["data"]["conf.yml"]
    by_variable = {"etcd", "listenAddress"}

    ours = read_yaml(text)["orbweaver"]

    assert set(ours) == {*OrbweaverConf.__struct_encode_fields__} - by_variable


def test_controllers_trust_the_providers_authority(
    rendered: dict[str, list[Object]], tmp_path: Path
) -> None:
    among = rendered["cloud"]
    conf = tmp_path / "conf.yml"
    conf.write_text(find("ConfigMap", "spiderpool-conf", among)["data"]["conf.yml"])
    deployment = find("Deployment", "orbweaver-controller", among)
    of_controller = load_controller(str(conf), variables(deployment, tmp_path))
    pod = deployment["spec"]["template"]["spec"]

    assert of_controller.provider is not None
    directory = str(Path(of_controller.provider.ca_file).parent)
    (mount,) = (
        rendered_object
        for rendered_object in pod["containers"][0]["volumeMounts"]
        if rendered_object["mountPath"] == directory
    )
    (volume,) = (
        rendered_object
        for rendered_object in pod["volumes"]
        if rendered_object["name"] == mount["name"]
    )
    assert volume["secret"]["secretName"] == "iaas-authority"


def test_a_controller_that_probes_may_open_packet_sockets() -> None:
    among = objects({"spiderpoolController": {"probeInterface": "eth1"}})
    (container,) = find("Deployment", "orbweaver-controller", among)["spec"]["template"]["spec"][
        "containers"
    ]

    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["NET_RAW"]}
    # Only root has a container's capabilities: Kubernetes sets no ambient ones.
    assert (context["runAsUser"], context["allowPrivilegeEscalation"]) == (0, False)


def test_conf_yml_has_no_key_that_is_not_read(rendered: dict[str, list[Object]]) -> None:
    text = find("ConfigMap", "spiderpool-conf", rendered["production"])["data"]["conf.yml"]
    known = parse_conf(text.encode(), "conf.yml")

    assert known.orbweaver.cluster == "north"
    assert known.guards_deletion
    assert set(read_yaml(text)) <= {*known.__struct_encode_fields__}


def test_the_charts_alerts_and_dashboards_equal_those_in_ops_monitoring(
    rendered: dict[str, list[Object]],
) -> None:
    among = rendered["production"]
    alerts = read_yaml((PROJECT_ROOT / "ops/monitoring/alerts.yml").read_text())

    assert find("PrometheusRule", "orbweaver", among)["spec"] == alerts
    data = find("ConfigMap", "orbweaver-dashboards", among)["data"]
    for name in ("addresses", "rdma-cluster", "rdma-node", "rdma-pod", "rdma-workload"):
        board = (PROJECT_ROOT / f"ops/monitoring/dashboards/{name}.json").read_text()
        assert json.loads(data[f"orbweaver-{name}.json"]) == json.loads(board)


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_every_command_of_a_container_exists(
    profile: str, rendered: dict[str, list[Object]]
) -> None:
    from ops.cli.orbctl_application import OrbctlCommands
    from ops.controller import hooks

    known = {
        "orbctl": set(OrbctlCommands.lazy_commands),
        "orbweaver-controller": {
            name.replace("_", "-") for name in dir(hooks) if not name.startswith("_")
        },
        "orbweaver-agent": set(),
        "etcd": set(),
        "sleep": {"infinity"},
    }
    for rendered_object in rendered[profile]:
        for container in containers(rendered_object):
            program, *arguments = container["command"]
            assert not arguments or arguments[0] in known[program], container["command"]


def test_a_kubelet_root_directory_changes_the_mounts_of_its_sockets() -> None:
    """Kubelet's --root-dir contains pod-resources; device-plugins is in the default directory."""
    root = "/data/kubelet"
    values = {
        "spiderpoolAgent": {"networkResourcePlugin": {"kubeletRootDir": root}},
        "sriov": {"install": True},
        "multus": {"multusCNI": {"install": True}},
    }
    among = objects(values)
    agent = find("DaemonSet", "orbweaver-agent", among)["spec"]["template"]["spec"]
    (multus,) = (
        rendered_object["spec"]["template"]["spec"]
        for rendered_object in among
        if rendered_object["kind"] == "DaemonSet"
        and "multus" in rendered_object["metadata"]["name"]
    )

    assert paths_of(agent, "devices") == (
        "/var/lib/kubelet/device-plugins",
        f"{root}/device-plugins",
    )
    assert paths_of(agent, "pod-resources") == (f"{root}/pod-resources",) * 2
    assert paths_of(multus, "kubelet") == (root, "/var/lib/kubelet")
    conf = find("ConfigMap", "spiderpool-conf", among)["data"]["conf.yml"]
    assert f"kubeletRootDir: {root}" in conf


def paths_of(pod: Object, volume: str) -> tuple[str, str]:
    """The directory of a volume on the node and in the first container that mounts it."""
    (on_node,) = (
        rendered_object["hostPath"]["path"]
        for rendered_object in pod["volumes"]
        if rendered_object["name"] == volume
    )
    mounts = (
        mount["mountPath"]
        for container in pod["containers"]
        for mount in container["volumeMounts"]
        if mount["name"] == volume
    )
    return on_node, next(mounts)


def test_the_charts_have_the_version_of_the_product() -> None:
    chart = read_yaml((CHART_FOLDER / "Chart.yaml").read_text())
    crds = read_yaml((CHART_FOLDER.parent / "orbweaver-crds/Chart.yaml").read_text())

    assert chart["version"] == chart["appVersion"] == crds["version"] == __version__


def test_the_default_coordinator_has_the_values_for_rp_filter_and_probes() -> None:
    options = {"retries": 5, "timeout": "1s"}
    values = {"coordinator": {"hostRPFilter": 0, "detectOptions": options}}

    default, changed_spec = (first_coordinator(objects(changed)) for changed in ({}, values))

    assert {"hostRPFilter", "detectOptions"}.isdisjoint(default)
    assert (changed_spec["hostRPFilter"], changed_spec["detectOptions"]) == (0, options)
    assert changed_spec | default == changed_spec


def first_coordinator(rendered: list[Object]) -> Object:
    """The spec of the SpiderCoordinator that the post-install Job creates."""
    texts = find("ConfigMap", "orbweaver-defaults", rendered)["data"].values()
    among = [
        rendered_object
        for text in texts
        for rendered_object in read_all_yaml(text)
        if rendered_object
    ]
    (spec,) = [
        rendered_object["spec"]
        for rendered_object in among
        if rendered_object["kind"] == "SpiderCoordinator"
    ]
    return dict(spec)


def test_the_notes_warn_of_missing_tls_and_archive() -> None:
    notes = render(values_of("smallest"))["NOTES.txt"]

    assert "etcd.tls.method is none" in notes
    assert "archive.enabled is false" not in notes
    assert "archive.enabled is false" in render(values_of("pod-network"))["NOTES.txt"]


def test_the_default_archive_claims_a_readwriteonce_volume_of_the_default_class() -> None:
    among = objects({})
    claim = find("PersistentVolumeClaim", "orbweaver-archive", among)["spec"]
    controller = find("Deployment", "orbweaver-controller", among)["spec"]
    volumes = {
        rendered_object["name"]: rendered_object
        for rendered_object in controller["template"]["spec"]["volumes"]
    }

    assert claim["accessModes"] == ["ReadWriteOnce"]
    assert "storageClassName" not in claim
    assert volumes["archive"]["persistentVolumeClaim"]["claimName"] == "orbweaver-archive"
    assert controller["replicas"] == 1


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteOncePod"])
def test_the_old_controller_releases_the_volume_before_a_new_one_mounts_it(mode: str) -> None:
    controller = find(
        "Deployment", "orbweaver-controller", objects({"archive": {"accessMode": mode}})
    )

    assert controller["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    "archive", [{"accessMode": "ReadWriteMany"}, {"existingClaim": "shared"}, {"enabled": False}]
)
def test_several_controllers_are_replaced_one_by_one(archive: Object) -> None:
    values = {"archive": archive, "spiderpoolController": {"replicas": 2}}
    controller = find("Deployment", "orbweaver-controller", objects(values))

    assert controller["spec"]["strategy"]["type"] == "RollingUpdate"


def test_helm_test_mounts_the_archive_on_the_controllers_node() -> None:
    among = objects({})
    pod = find("Pod", "orbweaver-test", among)["spec"]
    controller = find("Deployment", "orbweaver-controller", among)["spec"]
    (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]

    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"] == controller["selector"]


def test_an_agents_affinity_always_excludes_disabled_nodes() -> None:
    disabled = {"key": "orbweaver.io/agent", "operator": "NotIn", "values": ["disabled"]}
    east, west = ({"key": "zone", "operator": "In", "values": [zone]} for zone in ("east", "west"))
    terms = [{"matchExpressions": [zone]} for zone in (east, west)]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    values = {"spiderpoolAgent": {"affinity": {"nodeAffinity": required}}}
    agent = find("DaemonSet", "orbweaver-agent", objects(values))

    affinity = agent["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    assert affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [
        {"matchExpressions": [zone, disabled]} for zone in (east, west)
    ]


def pod_of(rendered_object: Object) -> Object | None:
    """The Pod or Pod template of an object."""
    if rendered_object["kind"] == "Pod":
        return dict(rendered_object["spec"])
    template_spec = rendered_object.get("spec", {}).get("template", {}).get("spec")
    return None if template_spec is None else dict(template_spec)


def containers(rendered_object: Object) -> list[Object]:
    """All containers of an object's Pod."""
    pod = pod_of(rendered_object) or {}
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


def variables(rendered_object: Object, directory: Path) -> dict[str, str]:
    """The environment of the first container, with values of its files."""
    (container,) = rendered_object["spec"]["template"]["spec"]["containers"]
    environment: dict[str, Any] = {}
    for entry in container["env"]:
        value = entry.get("value", "from-the-field")
        if value.startswith("/etc/orbweaver/etcd"):
            path = directory / value.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("secret")
            value = str(path)
        environment[entry["name"]] = value
    return environment
