"""The rendered chart equals the golden files, and matches the code of agent and controller."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from core import __version__
from core.settings.conf_file import OrbweaverConf, parse_conf
from nodeagent.clusterip.pod_cgroups import BPFFS
from nodeagent.settings.settings_loader import load_settings as load_agent_settings
from ops.controller.settings import load_settings as load_controller_settings
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
    find_object,
    render_objects,
    render_templates,
    values_of,
)
from tests.support.yaml_reader import read_all_yaml, read_yaml


@pytest.fixture(scope="module")
def rendered_profiles() -> dict[str, list[Object]]:
    return {profile: render_objects(values_of(profile)) for profile in VALUES_PROFILES}


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_a_rendered_profile_equals_its_golden_file(
    profile: str, rendered_profiles: dict[str, list[Object]]
) -> None:
    golden = (GOLDEN_FOLDER / f"{profile}.yaml").read_text()

    assert dump_objects(rendered_profiles[profile]) == golden, (
        "run `python -m tests.chart.rendering`, and review the changes"
    )


def test_there_is_a_golden_file_for_each_profile() -> None:
    assert {path.stem for path in GOLDEN_FOLDER.iterdir()} == set(VALUES_PROFILES)


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_no_container_is_privileged_and_no_rule_has_a_wildcard(
    profile: str, rendered_profiles: dict[str, list[Object]]
) -> None:
    for item in rendered_profiles[profile]:
        for rule in item.get("rules") or ():
            assert "*" not in json.dumps(rule), (item["metadata"]["name"], rule)
        for container in containers(item):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"]["drop"] == ["ALL"]
            assert "privileged" not in context


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_only_agents_and_the_clean_up_have_capabilities_or_run_as_root(
    profile: str, rendered_profiles: dict[str, list[Object]]
) -> None:
    added = {
        container["name"]: container["securityContext"]["capabilities"]["add"]
        for item in rendered_profiles[profile]
        for container in containers(item)
        if "add" in container["securityContext"]["capabilities"]
    }

    if "clean" in added:
        must_detach_ebpf = profile == "production"
        assert added.pop("clean") == [
            *("DAC_OVERRIDE", "NET_ADMIN"),
            *(["SYS_ADMIN"] if must_detach_ebpf else []),
        ]
    assert added == {"agent": ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"], "install": ["DAC_OVERRIDE"]}
    for item in rendered_profiles[profile]:
        if (pod := pod_of(item)) is not None and item["kind"] != "DaemonSet":
            assert pod["securityContext"]["runAsNonRoot"] is True


def test_the_webhooks_of_the_chart_equal_the_webhooks_of_the_controller() -> None:
    values = values_of("production")
    values["spiderpoolController"]["tls"] = {
        "method": "provided",
        "secretName": "mine",
        "caBundle": base64.b64encode(b"pem").decode(),
    }
    objects = render_objects(values)
    client = WebhookClientConfig(b"pem", service="orbweaver-controller", namespace=CHART_NAMESPACE)
    injection = InjectionSettings((*InjectionSettings().exclude, CHART_NAMESPACE), ("shop",))

    for expected in configurations(client, guards_deletion=True, injection=injection):
        configuration = find_object(expected["kind"], expected["metadata"]["name"], objects)
        assert configuration["webhooks"] == expected["webhooks"]


def test_disabled_kinds_have_no_webhook(rendered_profiles: dict[str, list[Object]]) -> None:
    configuration = find_object(
        "ValidatingWebhookConfiguration", "spiderpool-controller", rendered_profiles["smallest"]
    )

    # The profile has no coordinator and no networks.
    assert [webhook["name"].partition(".")[0] for webhook in configuration["webhooks"]] == [
        "spiderippool",
        "spidersubnet",
        "spiderreservedip",
        "spiderippool-deletion",
        "spidersubnet-deletion",
    ]


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_agent_and_controller_load_the_charts_settings(
    profile: str, rendered_profiles: dict[str, list[Object]], tmp_path: Path
) -> None:
    objects = rendered_profiles[profile]
    conf = tmp_path / "conf.yml"
    conf.write_text(find_object("ConfigMap", "spiderpool-conf", objects)["data"]["conf.yml"])
    controller = variables(find_object("Deployment", "orbweaver-controller", objects), tmp_path)
    agent = variables(find_object("DaemonSet", "orbweaver-agent", objects), tmp_path)

    controller_settings = load_controller_settings(str(conf), controller)
    agent_settings = load_agent_settings(str(conf), agent)

    assert controller_settings.cluster.etcd == agent_settings.etcd
    assert controller_settings.cluster.cluster == agent_settings.cluster
    assert controller_settings.kubernetes is not None
    assert controller_settings.kubernetes.webhook is not None
    assert controller_settings.kubernetes.lease is not None
    assert agent_settings.kubeconfig == ""  # the agent uses its service account
    assert agent_settings.tune_sysctls
    coordinator = controller_settings.kubernetes.coordinator
    assert agent_settings.coordinator_name == ("" if coordinator is None else coordinator.name)


class RecordingVariables(dict[str, str]):
    """Environment variables that record each name that is read."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables)
        self.names_read: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names_read.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names_read.add(name)
        return super().get(name, default)


SET_IN_CONF_YML = {
    "ORBWEAVER_ADDRESS_ORDER",
    "ORBWEAVER_ANNOUNCE_ADDRESSES",
    "ORBWEAVER_COOL_DOWN_SECONDS",
    "ORBWEAVER_SOCKET_PATH",
    "ORBWEAVER_TRACES_ENDPOINT",
    *(f"ORBWEAVER_CLUSTER_IP{what}" for what in ("", "_CGROUP", "_BPFFS", "_HOST_NETWORK")),
}
"""The chart does not set these variables, because conf.yml has the values."""

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
"""The chart does not set these variables, because few clusters need them."""


def test_agent_variables_that_the_chart_leaves_unset_are_listed_above(
    rendered_profiles: dict[str, list[Object]], tmp_path: Path
) -> None:
    objects = rendered_profiles["default"]
    conf = tmp_path / "conf.yml"
    conf.write_text(find_object("ConfigMap", "spiderpool-conf", objects)["data"]["conf.yml"])
    chart_variables = RecordingVariables(
        variables(find_object("DaemonSet", "orbweaver-agent", objects), tmp_path)
    )

    load_agent_settings(str(conf), chart_variables)

    assert (
        chart_variables.names_read - chart_variables.keys() <= SET_IN_CONF_YML | LEFT_TO_EXTRA_ENV
    )


def test_conf_yml_has_every_orbweaver_key_that_no_variable_sets(
    rendered_profiles: dict[str, list[Object]],
) -> None:
    objects = rendered_profiles["production"]
    text = find_object("ConfigMap", "spiderpool-conf", objects)["data"]["conf.yml"]
    set_by_variables = {"etcd", "listenAddress"}

    section = read_yaml(text)["orbweaver"]

    assert set(section) == {*OrbweaverConf.__struct_encode_fields__} - set_by_variables


def test_the_ca_file_of_the_network_provider_is_mounted_into_controllers(
    rendered_profiles: dict[str, list[Object]], tmp_path: Path
) -> None:
    objects = rendered_profiles["cloud"]
    conf = tmp_path / "conf.yml"
    conf.write_text(find_object("ConfigMap", "spiderpool-conf", objects)["data"]["conf.yml"])
    deployment = find_object("Deployment", "orbweaver-controller", objects)
    controller_settings = load_controller_settings(str(conf), variables(deployment, tmp_path))
    pod = deployment["spec"]["template"]["spec"]

    assert controller_settings.provider is not None
    directory = str(Path(controller_settings.provider.ca_file).parent)
    (mount,) = (
        mount for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == directory
    )
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == mount["name"])
    assert volume["secret"]["secretName"] == "iaas-authority"


def test_a_controller_with_a_probe_interface_runs_as_root_with_net_raw() -> None:
    objects = render_objects({"spiderpoolController": {"probeInterface": "eth1"}})
    (container,) = find_object("Deployment", "orbweaver-controller", objects)["spec"]["template"][
        "spec"
    ]["containers"]

    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["NET_RAW"]}
    # Only root gets the capabilities of a container: Kubernetes sets no ambient capabilities.
    assert (context["runAsUser"], context["allowPrivilegeEscalation"]) == (0, False)


def test_every_key_of_conf_yml_is_read(rendered_profiles: dict[str, list[Object]]) -> None:
    objects = rendered_profiles["production"]
    text = find_object("ConfigMap", "spiderpool-conf", objects)["data"]["conf.yml"]
    conf = parse_conf(text.encode(), "conf.yml")

    # The profile sets these two values.
    assert conf.orbweaver.cluster == "north"
    assert conf.guards_deletion
    assert set(read_yaml(text)) <= {*conf.__struct_encode_fields__}


def test_the_charts_alerts_and_dashboards_equal_those_in_ops_monitoring(
    rendered_profiles: dict[str, list[Object]],
) -> None:
    objects = rendered_profiles["production"]
    alerts = read_yaml((PROJECT_ROOT / "ops/monitoring/alerts.yml").read_text())

    assert find_object("PrometheusRule", "orbweaver", objects)["spec"] == alerts
    data = find_object("ConfigMap", "orbweaver-dashboards", objects)["data"]
    for name in ("addresses", "rdma-cluster", "rdma-node", "rdma-pod", "rdma-workload"):
        dashboard = (PROJECT_ROOT / f"ops/monitoring/dashboards/{name}.json").read_text()
        assert json.loads(data[f"orbweaver-{name}.json"]) == json.loads(dashboard)


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_every_command_of_a_container_exists(
    profile: str, rendered_profiles: dict[str, list[Object]]
) -> None:
    from ops.cli.orbctl_application import OrbctlCommands
    from ops.controller import hooks

    subcommands = {
        "orbctl": set(OrbctlCommands.lazy_commands),
        "orbweaver-controller": {
            name.replace("_", "-") for name in dir(hooks) if not name.startswith("_")
        },
        "orbweaver-agent": set(),
        "etcd": set(),
        "sleep": {"infinity"},
    }
    for item in rendered_profiles[profile]:
        for container in containers(item):
            program, *arguments = container["command"]
            assert not arguments or arguments[0] in subcommands[program], container["command"]


def test_kubelet_root_dir_changes_the_mounts_of_kubelet_sockets() -> None:
    """Kubelet puts pod-resources into --root-dir, device-plugins always into /var/lib/kubelet."""
    root = "/data/kubelet"
    values = {
        "spiderpoolAgent": {"networkResourcePlugin": {"kubeletRootDir": root}},
        "sriov": {"install": True},
        "multus": {"multusCNI": {"install": True}},
    }
    objects = render_objects(values)
    agent = find_object("DaemonSet", "orbweaver-agent", objects)["spec"]["template"]["spec"]
    (multus,) = (
        item["spec"]["template"]["spec"]
        for item in objects
        if item["kind"] == "DaemonSet" and "multus" in item["metadata"]["name"]
    )

    assert paths_of(agent, "devices") == (
        "/var/lib/kubelet/device-plugins",
        f"{root}/device-plugins",
    )
    assert paths_of(agent, "pod-resources") == (f"{root}/pod-resources",) * 2
    assert paths_of(multus, "kubelet") == (root, "/var/lib/kubelet")
    conf = find_object("ConfigMap", "spiderpool-conf", objects)["data"]["conf.yml"]
    assert f"kubeletRootDir: {root}" in conf


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_agents_and_the_clean_up_can_remove_pinned_programs_of_an_earlier_clusterip_setting(
    profile: str, rendered_profiles: dict[str, list[Object]]
) -> None:
    for item in rendered_profiles[profile]:
        if item["kind"] == "DaemonSet" and item["metadata"]["name"].startswith("orbweaver-"):
            pod = item["spec"]["template"]["spec"]
            assert paths_of(pod, "bpf") == (BPFFS, BPFFS)


def paths_of(pod: Object, volume: str) -> tuple[str, str]:
    """(directory on the node, directory in the first container that mounts it) of a volume."""
    (on_node,) = (item["hostPath"]["path"] for item in pod["volumes"] if item["name"] == volume)
    mounts = (
        mount["mountPath"]
        for container in (*pod["containers"], *pod["initContainers"])
        for mount in container.get("volumeMounts", ())
        if mount["name"] == volume
    )
    return on_node, next(mounts)


def test_the_charts_have_the_version_of_the_product() -> None:
    chart = read_yaml((CHART_FOLDER / "Chart.yaml").read_text())
    crds = read_yaml((CHART_FOLDER.parent / "orbweaver-crds/Chart.yaml").read_text())

    assert chart["version"] == chart["appVersion"] == crds["version"] == __version__


def test_the_default_coordinator_has_only_options_that_are_set() -> None:
    options = {"retries": 5, "timeout": "1s"}
    values = {"coordinator": {"hostRPFilter": 0, "detectOptions": options}}

    default, changed = (default_coordinator(render_objects(item)) for item in ({}, values))

    assert {"hostRPFilter", "detectOptions"}.isdisjoint(default)
    assert (changed["hostRPFilter"], changed["detectOptions"]) == (0, options)
    assert changed | default == changed, "the other fields must not change"


def default_coordinator(objects: list[Object]) -> Object:
    """The spec of the SpiderCoordinator that the chart's post-install Job creates."""
    texts = find_object("ConfigMap", "orbweaver-defaults", objects)["data"].values()
    (spec,) = (
        item["spec"]
        for text in texts
        for item in read_all_yaml(text)
        if item and item["kind"] == "SpiderCoordinator"
    )
    return dict(spec)


def test_the_notes_warn_of_missing_tls_and_of_a_disabled_archive() -> None:
    notes_without_tls = render_templates(values_of("smallest"))["NOTES.txt"]
    notes_without_archive = render_templates(values_of("pod-network"))["NOTES.txt"]

    assert "etcd.tls.method is none" in notes_without_tls
    assert "archive.enabled is false" not in notes_without_tls
    assert "archive.enabled is false" in notes_without_archive


def test_the_default_archive_claims_a_readwriteonce_volume() -> None:
    objects = render_objects({})
    claim = find_object("PersistentVolumeClaim", "orbweaver-archive", objects)["spec"]
    controller = find_object("Deployment", "orbweaver-controller", objects)["spec"]
    volumes = {item["name"]: item for item in controller["template"]["spec"]["volumes"]}

    assert claim["accessModes"] == ["ReadWriteOnce"]
    assert "storageClassName" not in claim
    assert volumes["archive"]["persistentVolumeClaim"]["claimName"] == "orbweaver-archive"
    assert controller["replicas"] == 1


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteOncePod"])
def test_the_old_controller_stops_first_if_only_one_pod_can_mount_the_archive(mode: str) -> None:
    controller = find_object(
        "Deployment", "orbweaver-controller", render_objects({"archive": {"accessMode": mode}})
    )

    assert controller["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    "archive", [{"accessMode": "ReadWriteMany"}, {"existingClaim": "shared"}, {"enabled": False}]
)
def test_controllers_have_rolling_updates_if_the_archive_is_shared_or_off(
    archive: Object,
) -> None:
    values = {"archive": archive, "spiderpoolController": {"replicas": 2}}
    controller = find_object("Deployment", "orbweaver-controller", render_objects(values))

    assert controller["spec"]["strategy"]["type"] == "RollingUpdate"


def test_the_helm_test_pod_runs_on_a_node_of_a_controller() -> None:
    # The Pod mounts the controllers' archive: a ReadWriteOnce volume, which one node can mount.
    objects = render_objects({})
    pod = find_object("Pod", "orbweaver-test", objects)["spec"]
    controller = find_object("Deployment", "orbweaver-controller", objects)["spec"]
    (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]

    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"] == controller["selector"]


def test_each_node_affinity_term_of_an_agent_also_excludes_disabled_nodes() -> None:
    disabled = {"key": "orbweaver.io/agent", "operator": "NotIn", "values": ["disabled"]}
    east, west = ({"key": "zone", "operator": "In", "values": [zone]} for zone in ("east", "west"))
    terms = [{"matchExpressions": [zone]} for zone in (east, west)]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    values = {"spiderpoolAgent": {"affinity": {"nodeAffinity": required}}}
    agent = find_object("DaemonSet", "orbweaver-agent", render_objects(values))

    affinity = agent["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    assert affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [
        {"matchExpressions": [zone, disabled]} for zone in (east, west)
    ]


def pod_of(item: Object) -> Object | None:
    """The spec of a Pod or Pod template; None for an object without Pods."""
    if item["kind"] == "Pod":
        return dict(item["spec"])
    template_spec = item.get("spec", {}).get("template", {}).get("spec")
    return None if template_spec is None else dict(template_spec)


def containers(item: Object) -> list[Object]:
    pod = pod_of(item) or {}
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


def variables(item: Object, directory: Path) -> dict[str, str]:
    """Return the only container's environment. Create etcd's credential files in ``directory``."""
    (container,) = item["spec"]["template"]["spec"]["containers"]
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
