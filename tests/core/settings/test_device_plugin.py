"""``agent.networkResourcePlugin`` of conf.yml sets the resources that a node advertises."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.domain.patterns.labels import LabelSelector, Requirement
from core.domain.slots import NIC_SLOTS, DeviceRules, NicRule, SubEniRule
from core.errors import BadInput
from core.manifests.networks.pod_slots import SlotSettings
from core.settings.device_plugin import DeviceSettings
from nodeagent.settings.settings_loader import load_settings
from ops.controller.settings import load_settings as load_controller
from ops.kubernetes.settings import InjectionSettings

AGENT_VARIABLES = {"SPIDERPOOL_NODE_NAME": "node-1"}
PROVIDER = "iaasNetworkProvider: {serverUrl: 'http://iaas'}\n"
FULL = """
agent:
  networkResourcePlugin:
    enabled: true
    kubeletRootDir: /var/snap/kubelet
    devicePluginAffinity:
      nodeSelector:
        matchExpressions:
          - {key: node-role.kubernetes.io/control-plane, operator: DoesNotExist}
    resourceAdvertisement:
      subENI:
        rules:
          - {resourceName: example.com/eni, defaultMaxCount: 8, nodeSelector: {matchLabels: {a: b}}}
          - {}
      masterNIC:
        rules:
          - {includeInterfaces: [eth*], excludeInterfaces: [eth9], defaultMaxCount: 5}
          - {nodeSelector: {matchLabels: {a: b}}}
"""
SWITCHED_OFF = FULL.replace("enabled: true", "enabled: false")
A_IS_B = LabelSelector({"a": "b"})
NICS = (
    NicRule(slots=5, include=("eth*",), exclude=("eth9",)),
    NicRule(slots=NIC_SLOTS, nodes=A_IS_B),
)
SUB_ENI = (
    SubEniRule("example.com/eni", slots=8, nodes=A_IS_B),
    SubEniRule("spidernet.io/sub-eni", slots=0),
)


def write_conf(directory: Path, text: str) -> str:
    path = directory / "conf.yml"
    path.write_text(text)
    return str(path)


def load_plugin_settings(directory: Path, text: str) -> DeviceSettings | None:
    return load_settings(write_conf(directory, text), AGENT_VARIABLES).devices


def test_every_key_is_read_and_selectors_have_the_kubernetes_form(tmp_path: Path) -> None:
    nodes = LabelSelector(
        {}, (Requirement("node-role.kubernetes.io/control-plane", "DoesNotExist"),)
    )

    devices = load_plugin_settings(tmp_path, FULL + PROVIDER)

    assert devices == DeviceSettings(
        rules=DeviceRules(nodes=nodes, sub_eni=SUB_ENI, nics=NICS),
        kubelet=Path("/var/snap/kubelet"),
    )


def test_no_sub_eni_is_advertised_without_a_network_provider(tmp_path: Path) -> None:
    devices = load_plugin_settings(tmp_path, FULL)

    assert devices is not None
    assert (devices.rules.sub_eni, devices.rules.nics) == ((), NICS)


@pytest.mark.parametrize("text", ["", "agent: {}", "agent:\n", SWITCHED_OFF])
def test_a_disabled_plugin_has_no_settings(tmp_path: Path, text: str) -> None:
    assert load_plugin_settings(tmp_path, text) is None


def test_the_kubelet_directory_defaults_to_var_lib_kubelet(tmp_path: Path) -> None:
    devices = load_plugin_settings(tmp_path, "agent: {networkResourcePlugin: {enabled: true}}")

    assert devices == DeviceSettings(rules=DeviceRules(), kubelet=Path("/var/lib/kubelet"))


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("/var/snap/kubelet", "var/snap", "kubeletRootDir"),
        ("matchExpressions", "matchexpressions", "devicePluginAffinity.nodeSelector"),
        ("DoesNotExist", "Absent", "nodeSelector.matchExpressions[0].operator"),
        ("{a: b}", "{'a b': c}", "subENI.rules[0].nodeSelector.matchLabels"),
        ("example.com/eni", "eni", "subENI.rules[0].resourceName"),
        ("[eth*]", "['eth[']", "masterNIC.rules[0].includeInterfaces"),
        ("[eth9]", "['[']", "masterNIC.rules[0].excludeInterfaces"),
        ("defaultMaxCount: 5", "defaultMaxCount: -1", "masterNIC.rules[0].defaultMaxCount"),
        ("defaultMaxCount: 8", "defaultMaxCount: 100001", "subENI.rules[0].defaultMaxCount"),
        ("enabled: true", "enabled: maybe", "networkResourcePlugin.enabled"),
    ],
)
def test_an_invalid_value_prevents_the_start_of_agents_and_controllers(
    tmp_path: Path, before: str, after: str, key: str
) -> None:
    path = write_conf(tmp_path, FULL.replace(before, after) + PROVIDER)
    for load in (load_settings, load_controller):
        with pytest.raises(BadInput) as refused:
            load(path, AGENT_VARIABLES | CONTROLLER_VARIABLES)
        assert refused.value.subject.endswith(key)
        assert refused.value.subject.startswith("agent.networkResourcePlugin")


CONTROLLER_VARIABLES = {
    "ORBWEAVER_KUBERNETES": "true",
    "ORBWEAVER_TLS_CERT_FILE": "/tls.crt",
    "ORBWEAVER_TLS_KEY_FILE": "/tls.key",
    "SPIDERPOOL_POD_NAME": "controller-0",
}
INJECTION_ENABLED = "podResourceInject: {enabled: true}\n"


def load_injection_settings(
    directory: Path, text: str, **variables: str
) -> InjectionSettings | None:
    settings = load_controller(write_conf(directory, text), CONTROLLER_VARIABLES | variables)
    assert settings.kubernetes is not None
    assert settings.kubernetes.webhook is not None
    return settings.kubernetes.webhook.injection


def test_the_pod_webhook_requests_the_resources_that_agents_advertise(tmp_path: Path) -> None:
    with_provider = load_injection_settings(tmp_path, FULL + PROVIDER + INJECTION_ENABLED)
    without_provider = load_injection_settings(tmp_path, FULL + INJECTION_ENABLED)
    disabled = load_injection_settings(tmp_path, SWITCHED_OFF + PROVIDER + INJECTION_ENABLED)

    assert with_provider is not None
    assert with_provider.slots == SlotSettings(
        request_nic_slots=True, provider_resource="example.com/eni"
    )
    assert without_provider is not None
    assert without_provider.slots == SlotSettings(request_nic_slots=True)
    assert disabled is not None
    assert disabled.slots == SlotSettings()
    assert load_injection_settings(tmp_path, FULL + PROVIDER) is None


def test_the_default_network_namespace_is_the_namespace_of_multus(tmp_path: Path) -> None:
    default = load_injection_settings(
        tmp_path, FULL + INJECTION_ENABLED, SPIDERPOOL_POD_NAMESPACE="orbweaver"
    )
    configured = load_injection_settings(
        tmp_path, FULL + INJECTION_ENABLED, ORBWEAVER_MULTUS_NAMESPACE="multus"
    )

    assert default is not None
    assert default.slots.default_network_namespace == "kube-system"
    assert configured is not None
    assert configured.slots.default_network_namespace == "multus"
