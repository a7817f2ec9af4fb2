"""``agent.networkResourcePlugin``: its meaning for agents and controllers, and refused values."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.domain.devices import NIC_SLOTS, DeviceRules, NicRule, SubEniRule
from core.domain.patterns.labels import LabelSelector, Requirement
from core.errors import BadInput
from core.manifests.networks.slots import SlotSettings
from core.settings.device_plugin import DeviceSettings
from nodeagent.settings.settings_loader import load_settings
from ops.controller.settings import load_settings as load_controller
from ops.kubernetes.settings import InjectionSettings

NODE = {"SPIDERPOOL_NODE_NAME": "node-1"}
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
NICS = (NicRule(5, include=("eth*",), exclude=("eth9",)), NicRule(NIC_SLOTS, A_IS_B))
SUB_ENI = (SubEniRule("example.com/eni", 8, A_IS_B), SubEniRule("spidernet.io/sub-eni", 0))


def written(directory: Path, text: str) -> str:
    path = directory / "conf.yml"
    path.write_text(text)
    return str(path)


def load(directory: Path, text: str) -> DeviceSettings | None:
    return load_settings(written(directory, text), NODE).devices


def test_every_key_is_obeyed_selectors_in_kubernetes_spelling(tmp_path: Path) -> None:
    nodes = LabelSelector(
        {}, (Requirement("node-role.kubernetes.io/control-plane", "DoesNotExist"),)
    )

    found = load(tmp_path, FULL + PROVIDER)

    assert found == DeviceSettings(DeviceRules(nodes, SUB_ENI, NICS), Path("/var/snap/kubelet"))


def test_without_a_provider_nothing_of_its_is_offered(tmp_path: Path) -> None:
    found = load(tmp_path, FULL)

    assert found is not None
    assert (found.rules.sub_eni, found.rules.nics) == ((), NICS)


@pytest.mark.parametrize("text", ["", "agent: {}", "agent:\n", SWITCHED_OFF])
def test_off_means_off(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) is None


def test_kubelets_directory_is_the_usual_one_where_nobody_says(tmp_path: Path) -> None:
    found = load(tmp_path, "agent: {networkResourcePlugin: {enabled: true}}")

    assert found == DeviceSettings(DeviceRules(), Path("/var/lib/kubelet"))


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
def test_a_value_that_cannot_be_used_keeps_agents_and_controllers_from_starting(
    tmp_path: Path, before: str, after: str, key: str
) -> None:
    path = written(tmp_path, FULL.replace(before, after) + PROVIDER)
    for load_one in (load_settings, load_controller):
        with pytest.raises(BadInput) as refused:
            load_one(path, NODE | WEBHOOKS)
        assert refused.value.subject.endswith(key)
        assert refused.value.subject.startswith("agent.networkResourcePlugin")


WEBHOOKS = {
    "ORBWEAVER_KUBERNETES": "true",
    "ORBWEAVER_TLS_CERT_FILE": "/tls.crt",
    "ORBWEAVER_TLS_KEY_FILE": "/tls.key",
    "SPIDERPOOL_POD_NAME": "controller-0",
}
INJECTING = "podResourceInject: {enabled: true}\n"


def injection(directory: Path, text: str, **variables: str) -> InjectionSettings | None:
    settings = load_controller(written(directory, text), WEBHOOKS | variables)
    assert settings.kubernetes is not None
    assert settings.kubernetes.webhook is not None
    return settings.kubernetes.webhook.injection


def test_the_pod_webhook_asks_for_what_agents_offer(tmp_path: Path) -> None:
    whole = injection(tmp_path, FULL + PROVIDER + INJECTING)
    unprovided = injection(tmp_path, FULL + INJECTING)
    off = injection(tmp_path, SWITCHED_OFF + PROVIDER + INJECTING)

    assert whole is not None
    assert whole.slots == SlotSettings(nics=True, sub_eni="example.com/eni")
    assert unprovided is not None
    assert unprovided.slots == SlotSettings(nics=True)
    assert off is not None
    assert off.slots == SlotSettings()
    assert injection(tmp_path, FULL + PROVIDER) is None


def test_networks_without_a_namespace_are_where_multus_looks_for_them(tmp_path: Path) -> None:
    elsewhere = injection(tmp_path, FULL + INJECTING, SPIDERPOOL_POD_NAMESPACE="orbweaver")
    moved = injection(tmp_path, FULL + INJECTING, ORBWEAVER_MULTUS_NAMESPACE="multus")

    assert elsewhere is not None
    assert elsewhere.slots.namespace == "kube-system"
    assert moved is not None
    assert moved.slots.namespace == "multus"
