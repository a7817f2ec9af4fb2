"""Every value of Spiderpool's chart is honoured, or accepted with a line in the notes.

The table ``spiderpool_values.yaml`` has the 312 leaves of Spiderpool's ``values.yaml`` of July
2026. Its fields: ``try``: the value to set; ``with``: values that the leaf needs; ``outcome``.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import Object, find, objects, render
from tests.support.yaml_reader import read_yaml

TABLE: dict[str, Object] = read_yaml(
    Path(__file__).with_name("spiderpool_values.yaml").read_text("utf-8")
)
NOTES = "NOTES.txt"


@pytest.mark.parametrize("leaf", TABLE)
def test_a_value_of_spiderpool_has_the_outcome_in_the_table(leaf: str) -> None:
    row = TABLE[leaf]
    without = row.get("with", {})
    changed = with_leaf(without, leaf, row["try"])

    before, after = rendered(without), rendered(changed)

    differs = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert differs - {NOTES} if row["outcome"] == "honoured" else differs == {NOTES}


def test_a_file_with_all_values_of_spiderpool_is_accepted() -> None:
    values: Object = {}
    for leaf, row in TABLE.items():
        if leaf != "ipam.enableIPv6":  # at least one address family must stay enabled
            values = with_leaf(values, leaf, row["try"])

    assert rendered(values)[NOTES]


def test_every_value_of_spiderpool_is_honoured_or_noted() -> None:
    outcomes = Counter(row["outcome"] for row in TABLE.values())

    assert outcomes == {"honoured": 220, "noted": 92}


@pytest.mark.parametrize("plural", ["sriovnetworknodepolicies", "sriovnetworknodestates"])
def test_sriov_definitions_are_installed_with_sriov_and_kept_at_uninstallation(plural: str) -> None:
    name = f"{plural}.sriovnetwork.openshift.io"

    without = [item["metadata"]["name"] for item in objects({})]
    definition = find("CustomResourceDefinition", name, objects({"sriov": {"install": True}}))

    assert name not in without
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(("disabled", "evicts"), [(False, True), (True, False)])
def test_controllers_may_uncordon_nodes_when_drains_are_disabled(
    disabled: bool, evicts: bool
) -> None:
    values = {"sriov": {"install": True, "operatorConfig": {"disableDrain": disabled}}}

    role = find("ClusterRole", "orbweaver-controller", objects(values))

    rights = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert ("nodes", "patch") in rights
    assert (("pods/eviction", "create") in rights) is evicts


def test_an_image_of_spiderpool_is_replaced_by_ours() -> None:
    image = {"registry": "ghcr.io", "repository": "spidernet-io/spiderpool/spiderpool-agent"}
    agent = find(
        "DaemonSet",
        "orbweaver-agent",
        objects({"spiderpoolAgent": {"image": image | {"tag": "v1.0.3"}}}),
    )

    (container,) = agent["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "orbweaver-agent:0.1.0"


def test_several_controllers_without_a_shared_volume_are_reduced_to_one_with_a_note() -> None:
    values = {"spiderpoolController": {"replicas": 2}}

    deployment = find("Deployment", "orbweaver-controller", objects(values))

    assert deployment["spec"]["replicas"] == 1
    assert "spiderpoolController.replicas: one controller runs" in rendered(values)[NOTES]


def test_multus_runs_as_its_own_daemonset() -> None:
    among = objects({"multus": {"multusCNI": {"install": True, "image": {"tag": "v4.1.4"}}}})
    pod = find("DaemonSet", "spiderpool-multus", among)["spec"]["template"]["spec"]
    settings = json.loads(
        find("ConfigMap", "spiderpool-multus", among)["data"]["daemon-config.json"]
    )
    definition = find(
        "CustomResourceDefinition", "network-attachment-definitions.k8s.cni.cncf.io", among
    )

    images = {container["image"] for container in (*pod["initContainers"], *pod["containers"])}
    assert images == {"ghcr.io/k8snetworkplumbingwg/multus-cni:v4.1.4-thick"}
    assert settings["multusConfigFile"] == "auto"
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_spiderpools_six_alerts_keep_their_names() -> None:
    rule = {"prometheus": {"prometheusRule": {"install": True}}}
    among = objects({"spiderpoolAgent": rule, "spiderpoolController": rule})

    alerts = {
        rule_entry["alert"]
        for item in among
        if item["kind"] == "PrometheusRule" and item["metadata"]["name"].endswith("-aliases")
        for group in item["spec"]["groups"]
        for rule_entry in group["rules"]
    }

    assert alerts == {
        "ipamAllocationFailure",
        "ipamAllocationOverTime",
        "ipamHighAllocationDurations",
        "ipamReleaseFailure",
        "ipamReleaseOverTime",
        "ipGCFailureCounts",
    }


def with_leaf(values: Object, leaf: str, value: Any) -> Object:
    """A copy of the values with this leaf set; ``keys`` explains the leaf's notation."""
    result = copy.deepcopy(values)
    section = result
    *path, last = keys(leaf)
    for key in path:
        section = section.setdefault(key, {})
    section[last] = value
    return result


def keys(leaf: str) -> list[str]:
    """The keys on the path to a leaf: ``a.b`` is b below a; ``a.[b.c/d]`` is ``b.c/d`` below a."""
    head, bracket, rest = leaf.partition(".[")
    return [*head.split("."), rest.removesuffix("]")] if bracket else head.split(".")


def rendered(values: Object) -> dict[str, str]:
    """Render like ``render``, but each set of values only once."""
    return _rendered(json.dumps(values, sort_keys=True))


@cache
def _rendered(values: str) -> dict[str, str]:
    return render(json.loads(values))
