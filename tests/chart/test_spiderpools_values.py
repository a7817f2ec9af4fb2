"""Every value of Spiderpool's chart is honoured, or accepted with a line in the notes.

``spiderpool_values.yaml`` has the 312 leaves of its ``values.yaml`` of July 2026.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import Object, find, objects, render

TABLE: dict[str, Object] = yaml.safe_load(
    Path(__file__).with_name("spiderpool_values.yaml").read_text("utf-8")
)
NOTES = "NOTES.txt"


@pytest.mark.parametrize("leaf", TABLE)
def test_a_value_does_what_the_table_says(leaf: str) -> None:
    row = TABLE[leaf]
    without = row.get("with", {})
    changed = placed(without, leaf, row["try"])

    before, after = rendered(without), rendered(changed)

    differs = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert differs - {NOTES} if row["outcome"] == "honoured" else differs == {NOTES}


def test_a_whole_file_of_values_is_taken() -> None:
    values: Object = {}
    for leaf, row in TABLE.items():
        if leaf != "ipam.enableIPv6":  # one of the families remains
            values = placed(values, leaf, row["try"])

    assert rendered(values)[NOTES]


def test_nothing_is_refused() -> None:
    outcomes = Counter(row["outcome"] for row in TABLE.values())

    assert outcomes == {"honoured": 220, "noted": 92}


@pytest.mark.parametrize("plural", ["sriovnetworknodepolicies", "sriovnetworknodestates"])
def test_definitions_of_virtual_functions_come_with_their_switch_and_stay(plural: str) -> None:
    name = f"{plural}.sriovnetwork.openshift.io"

    without = [one["metadata"]["name"] for one in objects({})]
    definition = find("CustomResourceDefinition", name, objects({"sriov": {"install": True}}))

    assert name not in without
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(("disabled", "evicts"), [(False, True), (True, False)])
def test_controllers_can_uncordon_nodes_also_where_drains_are_off(
    disabled: bool, evicts: bool
) -> None:
    values = {"sriov": {"install": True, "operatorConfig": {"disableDrain": disabled}}}

    role = find("ClusterRole", "orbweaver-controller", objects(values))

    rights = {(kind, verb) for r in role["rules"] for kind in r["resources"] for verb in r["verbs"]}
    assert ("nodes", "patch") in rights
    assert (("pods/eviction", "create") in rights) is evicts


def test_images_of_spiderpools_programs_are_ours() -> None:
    image = {"registry": "ghcr.io", "repository": "spidernet-io/spiderpool/spiderpool-agent"}
    agent = find(
        "DaemonSet",
        "orbweaver-agent",
        objects({"spiderpoolAgent": {"image": image | {"tag": "v1.0.3"}}}),
    )

    (container,) = agent["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "orbweaver-agent:0.1.0"


def test_several_controllers_without_a_shared_volume_become_one_with_a_note() -> None:
    values = {"spiderpoolController": {"replicas": 2}}

    deployment = find("Deployment", "orbweaver-controller", objects(values))

    assert deployment["spec"]["replicas"] == 1
    assert "spiderpoolController.replicas: one controller runs" in rendered(values)[NOTES]


def test_multus_runs_as_a_daemon_of_its_own() -> None:
    among = objects({"multus": {"multusCNI": {"install": True, "image": {"tag": "v4.1.4"}}}})
    pod = find("DaemonSet", "spiderpool-multus", among)["spec"]["template"]["spec"]
    settings = json.loads(
        find("ConfigMap", "spiderpool-multus", among)["data"]["daemon-config.json"]
    )
    definition = find(
        "CustomResourceDefinition", "network-attachment-definitions.k8s.cni.cncf.io", among
    )

    images = {one["image"] for one in (*pod["initContainers"], *pod["containers"])}
    assert images == {"ghcr.io/k8snetworkplumbingwg/multus-cni:v4.1.4-thick"}
    assert settings["multusConfigFile"] == "auto"
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_spiderpools_six_alerts_keep_their_names() -> None:
    rule = {"prometheus": {"prometheusRule": {"install": True}}}
    among = objects({"spiderpoolAgent": rule, "spiderpoolController": rule})

    alerts = {
        each["alert"]
        for one in among
        if one["kind"] == "PrometheusRule" and one["metadata"]["name"].endswith("-aliases")
        for group in one["spec"]["groups"]
        for each in group["rules"]
    }

    assert alerts == {
        "ipamAllocationFailure",
        "ipamAllocationOverTime",
        "ipamHighAllocationDurations",
        "ipamReleaseFailure",
        "ipamReleaseOverTime",
        "ipGCFailureCounts",
    }


def placed(values: Object, leaf: str, value: Any) -> Object:
    """The values with one more; a key with dots is in brackets in the table."""
    found = copy.deepcopy(values)
    place = found
    *path, last = keys(leaf)
    for key in path:
        place = place.setdefault(key, {})
    place[last] = value
    return found


def keys(leaf: str) -> list[str]:
    """``a.[b.c/d]`` is the key ``b.c/d`` below ``a``."""
    head, bracket, rest = leaf.partition(".[")
    return [*head.split("."), rest.removesuffix("]")] if bracket else head.split(".")


def rendered(values: Object) -> dict[str, str]:
    """As ``render``, each set of values once."""
    return _rendered(json.dumps(values, sort_keys=True))


@cache
def _rendered(values: str) -> dict[str, str]:
    return render(json.loads(values))
