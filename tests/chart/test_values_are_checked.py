"""``values.schema.json`` and the chart refuse invalid values, and name them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from helm_python import HelmError

from tests.chart.rendering import CHART, Object, render, values_of


def plugin(**said: Any) -> Object:
    """Values of the device plugin."""
    return {"spiderpoolAgent": {"networkResourcePlugin": said}}


BAD: dict[str, tuple[Object, str]] = {
    "a value nobody knows": ({"spiderpoolAgnet": {}}, "spiderpoolAgnet"),
    "a part that nobody knows": ({"multus": {"multusCNI": {"instal": True}}}, "instal"),
    "a text for the truth of a plugin": ({"plugins": {"installCNI": "yes"}}, "installCNI"),
    "a text for a truth": ({"ipam": {"enableIPv4": "yes"}}, "enableIPv4"),
    "a port that is none": ({"spiderpoolController": {"httpPort": 70000}}, "httpPort"),
    "less than no replicas": ({"spiderpoolController": {"replicas": -1}}, "replicas"),
    "an even number of members": ({"etcd": {"embedded": {"replicas": 2}}}, "replicas"),
    "an endpoint that is a URL": ({"etcd": {"endpoints": ["http://a:2379"]}}, "endpoints"),
    "an unknown method": ({"etcd": {"tls": {"method": "magic"}}}, "method"),
    "a right to everything": (
        {"spiderpoolController": {"thirdParties": [{"apiGroup": "*", "resources": ["pods"]}]}},
        "apiGroup",
    ),
    "an unknown order": ({"orbweaver": {"addressOrder": "random"}}, "addressOrder"),
    "a mode the public chart has not": ({"coordinator": {"mode": "off"}}, "mode"),
    "a relative path": ({"global": {"cniBinHostPath": "opt/cni/bin"}}, "cniBinHostPath"),
    "a digest that is none": ({"spiderpoolAgent": {"image": {"digest": "abc"}}}, "digest"),
    "a level that is none": ({"spiderpoolAgent": {"debug": {"logLevel": "loud"}}}, "logLevel"),
    "a time-out that is none": ({"iaasNetworkProvider": {"httpRequestTimeout": "x"}}, "Timeout"),
    "a selector in another spelling": (
        plugin(devicePluginAffinity={"nodeSelector": {"matchlabels": {"a": "b"}}}),
        "matchlabels",
    ),
    "more slots than kubelet takes": (
        plugin(resourceAdvertisement={"masterNIC": {"rules": [{"defaultMaxCount": 100_001}]}}),
        "defaultMaxCount",
    ),
    "a resource without a domain": (
        plugin(resourceAdvertisement={"subENI": {"rules": [{"resourceName": "eni"}]}}),
        "resourceName",
    ),
    "a relative directory of kubelet": (plugin(kubeletRootDir="kubelet"), "kubeletRootDir"),
    # The chart checks combinations of values.
    "no etcd at all": (
        {"etcd": {"embedded": {"enabled": False}, "tls": {"method": "none"}}},
        "etcd.endpoints is empty",
    ),
    "certificates for somebody else's etcd": (
        {"etcd": {"embedded": {"enabled": False}, "endpoints": ["a:1"]}},
        "etcd.tls.method: auto",
    ),
    "no family": ({"ipam": {"enableIPv4": False, "enableIPv6": False}}, "both false"),
    "no certificate": ({"spiderpoolController": {"tls": {"method": "provided"}}}, "secretName"),
    "a certificate without its key": (
        {"spiderpoolController": {"tls": {"method": "provided", "provided": {"tlsCert": "YQ=="}}}},
        "tlsKey",
    ),
    "a pool without a subnet": (
        {"clusterDefaultPool": {"installIPv4IPPool": True}},
        "clusterDefaultPool.ipv4Subnet",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_value_that_cannot_work_is_refused_by_its_name(what: str) -> None:
    values, name = BAD[what]

    with pytest.raises(HelmError) as refused:
        render(values)

    assert name in str(refused.value)


def test_every_value_has_a_schema_and_every_schema_a_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert not list(differences(schema, values, ""))


def test_what_the_public_chart_calls_the_same_is_taken() -> None:
    names = values_of("production")

    assert render(names)


def differences(schema: Any, value: Any, path: str) -> list[str]:
    """Keys that only one of the two has."""
    properties = schema.get("properties")
    if properties is None or not value or not isinstance(value, dict):
        return []  # values that are only noted have no defaults
    found = [f"{path}.{key}" for key in properties.keys() ^ value.keys()]
    for key in properties.keys() & value.keys():
        found += differences(properties[key], value[key], f"{path}.{key}")
    return found
