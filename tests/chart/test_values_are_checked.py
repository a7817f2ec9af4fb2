"""``values.schema.json`` and the templates refuse invalid values; the error names the value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from helm_python import HelmError

from tests.chart.rendering import CHART_FOLDER, Object, render_templates, values_of
from tests.support.yaml_reader import read_yaml


def device_plugin(**settings: Any) -> Object:
    return {"spiderpoolAgent": {"networkResourcePlugin": settings}}


INVALID: dict[str, tuple[Object, str]] = {
    "an unknown top-level value": ({"spiderpoolAgnet": {}}, "spiderpoolAgnet"),
    "an unknown nested value": ({"multus": {"multusCNI": {"instal": True}}}, "instal"),  # a typo
    "a string as plugins.installCNI": ({"plugins": {"installCNI": "yes"}}, "installCNI"),
    "a string as ipam.enableIPv4": ({"ipam": {"enableIPv4": "yes"}}, "enableIPv4"),
    "an invalid port": ({"spiderpoolController": {"httpPort": 70000}}, "httpPort"),
    "a negative number of replicas": ({"spiderpoolController": {"replicas": -1}}, "replicas"),
    "an even number of etcd members": ({"etcd": {"embedded": {"replicas": 2}}}, "replicas"),
    "an endpoint that is a URL": ({"etcd": {"endpoints": ["http://a:2379"]}}, "endpoints"),
    "an unknown certificate method": ({"etcd": {"tls": {"method": "magic"}}}, "method"),
    "a wildcard API group": (
        {"spiderpoolController": {"thirdParties": [{"apiGroup": "*", "resources": ["pods"]}]}},
        "apiGroup",
    ),
    "an unknown address order": ({"orbweaver": {"addressOrder": "random"}}, "addressOrder"),
    "a priority that 802.1Q does not have": (
        {"orbweaver": {"roceQos": [{"rdmaPriority": 8}]}},
        "rdmaPriority",
    ),
    "a mode that Spiderpool's chart does not have": ({"coordinator": {"mode": "off"}}, "mode"),
    "a relative path of the CNI executables": (
        {"global": {"cniBinHostPath": "opt/cni/bin"}},
        "cniBinHostPath",
    ),
    "an invalid digest": ({"spiderpoolAgent": {"image": {"digest": "abc"}}}, "digest"),
    "an invalid log level": ({"spiderpoolAgent": {"debug": {"logLevel": "loud"}}}, "logLevel"),
    "an invalid timeout of HTTP requests": (
        {"iaasNetworkProvider": {"httpRequestTimeout": "x"}},
        "Timeout",
    ),
    "a misspelled matchLabels": (
        device_plugin(devicePluginAffinity={"nodeSelector": {"matchlabels": {"a": "b"}}}),
        "matchlabels",
    ),
    "more slots than kubelet accepts": (
        device_plugin(
            resourceAdvertisement={"masterNIC": {"rules": [{"defaultMaxCount": 100_001}]}}
        ),
        "defaultMaxCount",
    ),
    "a resource without a domain": (
        device_plugin(resourceAdvertisement={"subENI": {"rules": [{"resourceName": "eni"}]}}),
        "resourceName",
    ),
    "a relative kubelet directory": (device_plugin(kubeletRootDir="kubelet"), "kubeletRootDir"),
    # The templates, not the schema, refuse the values below.
    "no etcd": (
        {"etcd": {"embedded": {"enabled": False}, "tls": {"method": "none"}}},
        "etcd.endpoints is empty",
    ),
    "automatic certificates for an external etcd": (
        {"etcd": {"embedded": {"enabled": False}, "endpoints": ["a:1"]}},
        "etcd.tls.method: auto",
    ),
    "one Secret for the automatic certificates of agents and controllers": (
        {"etcd": {"tls": {"clientSecret": "etcd-client"}}},
        "etcd.tls.clientSecret",
    ),
    "one Secret for two certificates of cert-manager": (
        {
            "etcd": {
                "tls": {
                    "method": "certmanager",
                    "certmanager": {"issuerName": "ours"},
                    "clientSecret": "etcd-client",
                }
            }
        },
        "etcd.tls.clientSecret",
    ),
    "no address family": ({"ipam": {"enableIPv4": False, "enableIPv6": False}}, "both false"),
    "no certificate": ({"spiderpoolController": {"tls": {"method": "provided"}}}, "secretName"),
    "a certificate without its key": (
        {"spiderpoolController": {"tls": {"method": "provided", "provided": {"tlsCert": "YQ=="}}}},
        "tlsKey",
    ),
    "a port of the console that is also the webhooks' port": (
        {"orbweaver": {"console": {"enabled": True, "port": 5722}}},
        "orbweaver.console.port: 5722 is also spiderpoolController.webhookPort",
    ),
    "a console with workflowActions and no authentication": (
        {"orbweaver": {"console": {"enabled": True, "auth": "none", "workflowActions": True}}},
        "orbweaver.console.workflowActions",
    ),
    "a pool without a subnet": (
        {"clusterDefaultPool": {"installIPv4IPPool": True}},
        "clusterDefaultPool.ipv4Subnet",
    ),
}
"""Case -> the values, and words of the error message."""


@pytest.mark.parametrize("case", INVALID)
def test_the_error_for_an_invalid_value_names_the_value(case: str) -> None:
    values, words = INVALID[case]

    with pytest.raises(HelmError) as refused:
        render_templates(values)

    assert words in str(refused.value)


def test_values_and_schema_have_the_same_keys() -> None:
    schema = json.loads((CHART_FOLDER / "values.schema.json").read_text())
    values = read_yaml((CHART_FOLDER / "values.yaml").read_text())

    assert not list(differences(schema, values, ""))


def test_values_named_as_in_spiderpools_chart_are_accepted() -> None:
    values = values_of("production")

    assert render_templates(values)


def differences(schema: Any, value: Any, path: str) -> list[str]:
    """Return the paths of the keys that only the schema or only the values have."""
    properties = schema.get("properties")
    if properties is None or not value or not isinstance(value, dict):
        return []  # the schema names no keys (nodeSelector), or the default is {} (detectOptions)
    paths = [f"{path}.{key}" for key in properties.keys() ^ value.keys()]
    for key in properties.keys() & value.keys():
        paths += differences(properties[key], value[key], f"{path}.{key}")
    return paths
