"""The error of an unreadable text names the document, the kind and the field, and has a remedy."""

from __future__ import annotations

import pytest

from core.errors import BadInput
from core.manifests.kinds.pools import PoolManifest
from core.manifests.manifest_parser import read_object
from core.manifests.schema_errors import known_paths
from tests.core.manifests.samples import POOL_YAML, RESERVATION_YAML, error_of

# Each line of ``spec`` with the field and the message of its error.
WRONG_TYPES = {
    "subnet: 10": ("spec.subnet", "expected a string, got a whole number"),
    "subnet: null": ("spec.subnet", "expected a string, got null"),
    "ips: 10.7.0.1": ("spec.ips", "expected a list, got a string"),
    "ips: {a: b}": ("spec.ips", "expected a list, got an object"),
    "ips: [10.7.0.1, 7]": ("spec.ips[1]", "expected a string, got a whole number"),
    "ips: [null]": ("spec.ips[0]", "expected a string, got null"),
    "ipVersion: '4'": ("spec.ipVersion", "expected a whole number, got a string"),
    "ipVersion: true": ("spec.ipVersion", "expected a whole number, got true or false"),
    "ipVersion: 4.5": ("spec.ipVersion", "expected a whole number, got a number"),
    "ipVersion: .nan": ("spec.ipVersion", "expected a whole number, got a number"),
    f"ipVersion: {2**63}": ("spec.ipVersion", "the number is out of range"),
    f"ipVersion: {10**40}": ("spec.ipVersion", "the number is out of range"),
    f"ipVersion: {-(2**63) - 1}": ("spec.ipVersion", "the number is out of range"),
    "gateway: [a]": ("spec.gateway", "expected a string, got a list"),
    "default: 1": ("spec.default", "expected true or false, got a whole number"),
    "disable: 'yes'": ("spec.disable", "expected true or false, got a string"),
    "routes: [a]": ("spec.routes[0]", "expected an object, got a string"),
    "routes: [{dst: a, gw: b}, {dst: a, gw: 1}]": (
        "spec.routes[1].gw",
        "expected a string, got a whole number",
    ),
    "routes: [{dst: a}]": ("spec.routes[0].gw", "is required and missing"),
    "podAffinity: []": ("spec.podAffinity", "expected an object, got a list"),
    "podAffinity: {matchLabels: {a: b, c: true}}": (
        "spec.podAffinity.matchLabels[c]",
        "expected a string, got true or false",
    ),
    "podAffinity: {matchLabels: {1: b}}": (
        "spec.podAffinity.matchLabels",
        "a key is not a string",
    ),
    "podAffinity: {matchExpressions: [{operator: In}]}": (
        "spec.podAffinity.matchExpressions[0].key",
        "is required and missing",
    ),
    "nodeAffinity: {matchExpressions: [{key: a, operator: In, values: a}]}": (
        "spec.nodeAffinity.matchExpressions[0].values",
        "expected a list, got a string",
    ),
    "1: 2": ("spec", "a key is not a string"),
}


@pytest.mark.parametrize(("line", "expected"), WRONG_TYPES.items(), ids=WRONG_TYPES.keys())
def test_the_error_of_a_wrong_type_names_the_field(line: str, expected: tuple[str, str]) -> None:
    head, _, _ = POOL_YAML.partition("  subnet:")
    subnet = "" if line.startswith("subnet") else "  subnet: 10.7.0.0/16\n"

    fault = error_of(f"{head}{subnet}  {line}\n")

    path, message = expected
    assert fault.subject == path
    assert fault.message == f"document 1 (SpiderIPPool): {path}: {message}"


# Each manifest with its unknown field and the remedy of its error.
UNKNOWN_FIELDS = {
    POOL_YAML + "  excludeIps: []\n": ("spec.excludeIps", "did you mean spec.excludeIPs?"),
    POOL_YAML + "  disabled: true\n": ("spec.disabled", "did you mean spec.disable?"),
    POOL_YAML + "  namespaceNames: []\n": (
        "spec.namespaceNames",
        "did you mean spec.namespaceName?",
    ),
    POOL_YAML + "  labels: {}\n": ("spec.labels", "did you mean metadata.labels?"),
    POOL_YAML + "  status: {}\n": ("spec.status", "did you mean status?"),
    POOL_YAML + "subnet: 10.7.0.0/16\n": ("subnet", "did you mean spec.subnet?"),
    POOL_YAML + "  routes: [{dst: a, gw: b, via: c}]\n": (
        "spec.routes[0].via",
        "known here: dst, gw",
    ),
    POOL_YAML + "  podAffinity: {matchlabels: {}}\n": (
        "spec.podAffinity.matchlabels",
        "did you mean spec.podAffinity.matchLabels?",
    ),
    RESERVATION_YAML + "  gateway: a\n": ("spec.gateway", "known here: ipVersion, ips"),
    RESERVATION_YAML + "colour: {}\n": (
        "colour",
        "known here: apiVersion, kind, metadata, spec, status",
    ),
    POOL_YAML.replace("  name: blue", "  nmae: blue"): (
        "metadata.nmae",
        "did you mean metadata.name?",
    ),
}


@pytest.mark.parametrize(
    ("text", "expected"), UNKNOWN_FIELDS.items(), ids=range(len(UNKNOWN_FIELDS))
)
def test_the_error_of_an_unknown_field_suggests_a_known_field(
    text: str, expected: tuple[str, str]
) -> None:
    fault = error_of(text)

    assert (fault.subject, fault.remedy) == expected
    assert fault.message.endswith(f"{expected[0]}: there is no such field")


def test_the_error_lists_the_known_fields_if_none_is_similar() -> None:
    fault = error_of(POOL_YAML + "  queue: 5\n")

    assert fault.subject == "spec.queue"
    assert "excludeIPs, gateway, ipVersion" in fault.remedy


# Each document with the field and words of the message of its error.
UNSUPPORTED_OBJECTS = {
    "metadata: {name: a}": ("kind", "expected a string"),
    "kind: 3": ("kind", "expected a string"),
    "kind: Pod": ("apiVersion", "expected a string"),
    "- kind: Pod": ("", "expected an object with apiVersion, kind and metadata"),
    "just text": ("", "expected an object with apiVersion, kind and metadata"),
    "{apiVersion: v1, kind: Pod}": ("metadata", "is required and missing"),
    "{apiVersion: v1, kind: Pod, metadata: {}}": ("metadata.name", "is required and missing"),
    "{apiVersion: v1, kind: Pod, metadata: {name: 3}}": (
        "metadata.name",
        "expected a string, got a whole number",
    ),
    "{apiVersion: v1, kind: Node, metadata: {name: a, labels: {a: 1}}}": (
        "metadata.labels[a]",
        "expected a string, got a whole number",
    ),
    "{apiVersion: apps/v1, kind: Pod, metadata: {name: a}}": (
        "apiVersion",
        "Pod needs v1, got 'apps/v1'",
    ),
    "{apiVersion: v1, kind: SpiderIPPool, metadata: {name: a}}": (
        "apiVersion",
        "SpiderIPPool needs spiderpool.spidernet.io/v2beta1, got 'v1'",
    ),
    "{apiVersion: v1, kind: List}": ("items", "a List needs apiVersion v1 and a list of items"),
    "{apiVersion: v1, kind: List, items: [3]}": ("", "expected an object"),
}


@pytest.mark.parametrize(
    ("text", "expected"), UNSUPPORTED_OBJECTS.items(), ids=UNSUPPORTED_OBJECTS.keys()
)
def test_the_error_of_an_unsupported_object_names_the_wrong_field(
    text: str, expected: tuple[str, str]
) -> None:
    fault = error_of(text)

    assert fault.subject == expected[0]
    assert expected[1] in fault.message
    assert fault.message.startswith("document 1")


@pytest.mark.parametrize("kind", ["SpiderMultusConfig", "SpiderCoordinator", "SpiderEndpoint"])
def test_the_error_of_an_unsupported_spiderpool_kind_lists_the_supported_kinds(kind: str) -> None:
    fault = error_of(POOL_YAML.replace("SpiderIPPool", kind))

    assert fault.subject == "kind"
    assert fault.message == f"document 1: kind: {kind} is not supported by this version"
    assert "SpiderIPPool" in fault.remedy


def test_the_error_of_an_unknown_kind_suggests_a_similar_kind() -> None:
    assert error_of(POOL_YAML.replace("IPPool", "IPpool")).remedy == "did you mean SpiderIPPool?"
    assert "supported: SpiderIPPool" in error_of("{apiVersion: v1, kind: Cheese}").remedy


def test_the_error_has_the_number_of_the_document() -> None:
    fault = error_of(f"---\n---\n{POOL_YAML}---\n{RESERVATION_YAML}  ipz: []\n")

    assert fault.message.startswith("document 3 (SpiderReservedIP): spec.ipz")


def test_the_error_has_the_index_of_the_list_item() -> None:
    text = "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Node, metadata: {}}]}"

    assert error_of(text).message.startswith("document 1, items[0] (Node): metadata.name")


def test_an_object_of_the_api_server_is_checked_like_a_document() -> None:
    with pytest.raises(BadInput) as caught:
        read_object({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 3}}, "Pod event")

    assert caught.value.message.startswith("Pod event (Pod): metadata.name: expected a string")


def test_the_known_fields_are_unique_dotted_paths() -> None:
    paths = known_paths(PoolManifest)

    assert {"spec.excludeIPs", "spec.routes.gw", "spec.podAffinity.matchExpressions.key"} <= {
        *paths
    }
    assert len(paths) == len(set(paths))
