"""Every value of Spiderpool's chart changes the rendered objects or a line of NOTES.txt.

``spiderpool_values.yaml`` has a row for each leaf of Spiderpool's ``values.yaml`` (July 2026):

- ``try``: the value to set.
- ``with``: other values that must be set too.
- ``outcome``: "honoured" if the rendered objects change, "noted" if only NOTES.txt changes.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import Object, find_object, render_objects, render_templates
from tests.support.yaml_reader import read_yaml

TABLE: dict[str, Object] = read_yaml(
    Path(__file__).with_name("spiderpool_values.yaml").read_text("utf-8")
)
NOTES = "NOTES.txt"


@pytest.mark.parametrize("leaf", TABLE)
def test_a_value_of_spiderpool_has_the_outcome_in_the_table(leaf: str) -> None:
    row = TABLE[leaf]
    values_without_leaf = row.get("with", {})

    before = cached_templates(values_without_leaf)
    after = cached_templates(with_leaf(values_without_leaf, leaf, row["try"]))

    changed_templates = {
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    }
    if row["outcome"] == "honoured":
        assert changed_templates - {NOTES}
    else:
        assert changed_templates == {NOTES}


def test_a_file_with_all_values_of_spiderpool_is_accepted() -> None:
    values: Object = {}
    for leaf, row in TABLE.items():
        if leaf != "ipam.enableIPv6":  # at least one address family must stay enabled
            values = with_leaf(values, leaf, row["try"])

    assert cached_templates(values)[NOTES]


def test_every_value_of_spiderpool_is_honoured_or_noted() -> None:
    outcomes = Counter(row["outcome"] for row in TABLE.values())

    assert outcomes == {"honoured": 220, "noted": 92}


@pytest.mark.parametrize("plural", ["sriovnetworknodepolicies", "sriovnetworknodestates"])
def test_sriov_crds_are_installed_only_on_request_and_are_never_uninstalled(plural: str) -> None:
    name = f"{plural}.sriovnetwork.openshift.io"

    names_by_default = [item["metadata"]["name"] for item in render_objects({})]
    crd = find_object(
        "CustomResourceDefinition", name, render_objects({"sriov": {"install": True}})
    )

    assert name not in names_by_default
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(("drain_disabled", "may_evict"), [(False, True), (True, False)])
def test_controllers_may_evict_pods_only_if_drains_are_enabled(
    drain_disabled: bool, may_evict: bool
) -> None:
    values = {"sriov": {"install": True, "operatorConfig": {"disableDrain": drain_disabled}}}

    role = find_object("ClusterRole", "orbweaver-controller", render_objects(values))

    rights = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert ("nodes", "patch") in rights
    assert (("pods/eviction", "create") in rights) is may_evict


def test_orbweavers_image_replaces_an_image_of_spiderpool() -> None:
    image = {"registry": "ghcr.io", "repository": "spidernet-io/spiderpool/spiderpool-agent"}
    agent = find_object(
        "DaemonSet",
        "orbweaver-agent",
        render_objects({"spiderpoolAgent": {"image": image | {"tag": "v1.0.3"}}}),
    )

    (container,) = agent["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "orbweaver-agent:0.1.0"


def test_one_controller_runs_if_there_is_no_shared_volume() -> None:
    values = {"spiderpoolController": {"replicas": 2}}

    deployment = find_object("Deployment", "orbweaver-controller", render_objects(values))

    assert deployment["spec"]["replicas"] == 1
    assert "spiderpoolController.replicas: one controller runs" in cached_templates(values)[NOTES]


def test_multus_is_installed_as_a_daemonset_with_its_crd() -> None:
    objects = render_objects(
        {"multus": {"multusCNI": {"install": True, "image": {"tag": "v4.1.4"}}}}
    )
    pod = find_object("DaemonSet", "spiderpool-multus", objects)["spec"]["template"]["spec"]
    settings = json.loads(
        find_object("ConfigMap", "spiderpool-multus", objects)["data"]["daemon-config.json"]
    )
    crd = find_object(
        "CustomResourceDefinition", "network-attachment-definitions.k8s.cni.cncf.io", objects
    )

    images = {container["image"] for container in (*pod["initContainers"], *pod["containers"])}
    assert images == {"ghcr.io/k8snetworkplumbingwg/multus-cni:v4.1.4-thick"}
    assert settings["multusConfigFile"] == "auto"
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(
    ("network", "namespace"), [("", "networks"), ("calico", "orbweaver"), ("shop/calico", "shop")]
)
def test_multus_agents_and_controllers_expect_default_networks_in_one_namespace(
    network: str, namespace: str
) -> None:
    multus = {"install": True, "multusNamespace": "networks", "defaultCniCRName": network}
    objects = render_objects({"multus": {"multusCNI": multus}})
    settings = json.loads(
        find_object("ConfigMap", "spiderpool-multus", objects)["data"]["daemon-config.json"]
    )
    variables = {
        kind: {entry["name"]: entry.get("value") for entry in container["env"]}
        for kind, name in (("DaemonSet", "orbweaver-agent"), ("Deployment", "orbweaver-controller"))
        for container in find_object(kind, name, objects)["spec"]["template"]["spec"]["containers"]
    }

    assert settings["multusNamespace"] == namespace
    assert {found["ORBWEAVER_MULTUS_NAMESPACE"] for found in variables.values()} == {namespace}


def test_spiderpools_six_alerts_keep_their_names() -> None:
    with_alerts = {"prometheus": {"prometheusRule": {"install": True}}}
    objects = render_objects({"spiderpoolAgent": with_alerts, "spiderpoolController": with_alerts})

    alerts = {
        rule["alert"]
        for item in objects
        if item["kind"] == "PrometheusRule" and item["metadata"]["name"].endswith("-aliases")
        for group in item["spec"]["groups"]
        for rule in group["rules"]
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
    """Return a copy of the values with this leaf set."""
    result = copy.deepcopy(values)
    section = result
    *path, last = keys_of(leaf)
    for key in path:
        section = section.setdefault(key, {})
    section[last] = value
    return result


def keys_of(leaf: str) -> list[str]:
    """Return the keys of the path: ``a.b`` -> a, b; ``a.[b.c/d]`` -> a, b.c/d."""
    path, bracket, last = leaf.partition(".[")
    return [*path.split("."), last.removesuffix("]")] if bracket else path.split(".")


def cached_templates(values: Object) -> dict[str, str]:
    return _rendered(json.dumps(values, sort_keys=True))


@cache
def _rendered(values: str) -> dict[str, str]:
    return render_templates(json.loads(values))
