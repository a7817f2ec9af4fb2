"""The two syntaxes in which Multus annotations name networks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.request_facts import PodFacts
from core.domain.selection.multus import (
    DEFAULT_NETWORK,
    NetworkSelectionElement,
    names_network,
    parse_networks,
    resolve,
)
from core.domain.selection.selection_request import SelectionSettings
from core.errors import BadInput

SHORT_SYNTAX = [
    ("blue", [NetworkSelectionElement("shop", "blue")]),
    ("ns/blue", [NetworkSelectionElement("ns", "blue")]),
    ("blue@fast0", [NetworkSelectionElement("shop", "blue", "fast0")]),
    (
        " ns/blue@fast0 , red ",
        [NetworkSelectionElement("ns", "blue", "fast0"), NetworkSelectionElement("shop", "red")],
    ),
    ("blue@", [NetworkSelectionElement("shop", "blue")]),
]
JSON_SYNTAX = [
    ("[]", []),
    ('[{"name":"blue"}]', [NetworkSelectionElement("shop", "blue")]),
    (
        '[{"NAME":"blue","Namespace":"ns","interface":"fast0","ips":["10.0.0.1"]}]',
        [NetworkSelectionElement("ns", "blue", "fast0")],
    ),
    (
        '[{"name":"blue","namespace":"","interface":null}]',
        [NetworkSelectionElement("shop", "blue")],
    ),
]
MALFORMED = [
    ("a/b/c", "'a/b/c' is not of the form namespace/name@interface"),
    ("/b", "'/b' is not of the form namespace/name@interface"),
    ("b@c@d", "'b@c@d' is not of the form namespace/name@interface"),
    ("b@a/b", "interface name 'a/b' has a '/' or white space"),
    ("b@a b", "interface name 'a b' has a '/' or white space"),
    ("b@abcdefghijklmnop", "interface name 'abcdefghijklmnop' exceeds 15 characters"),
    ("a,,b", "a network has no name"),
    ("ns/", "a network has no name"),
    ('{"name":"blue"}', "the list of networks must be a list, not an object"),
    ('["blue"]', "each network must be an object, not a string"),
    ('[{"name":7}]', "name must be a string, not a number"),
    ('"blue"', "the list of networks must be a list, not a string"),
]


@pytest.mark.parametrize(("text", "networks"), [*SHORT_SYNTAX, *JSON_SYNTAX])
def test_networks_are_read_from_the_short_syntax_and_from_json(
    text: str, networks: list[NetworkSelectionElement]
) -> None:
    assert parse_networks(text, "shop") == networks


@pytest.mark.parametrize(("text", "message"), MALFORMED)
def test_a_malformed_text_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_networks(text, "shop")

    assert caught.value.message == message


@given(st.text(alphabet='ab/@, []{}":'))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        networks = parse_networks(text, "shop")
    except BadInput:
        return

    assert all(network.name and network.namespace for network in networks)


OTHER_NAMESPACE = SelectionSettings(agent_namespace="networking", multus_namespace="kube-system")
"""The settings of an agent outside the namespace of Multus."""


@pytest.mark.parametrize(
    ("entry", "networks"),
    [
        ("blue", {"kube-system/blue", "networking/blue"}),
        ("shop/blue", {"shop/blue"}),
        ("kube-system/blue", {"kube-system/blue"}),
    ],
)
def test_a_multus_name_without_namespace_matches_the_namespaces_of_multus_and_the_agent(
    entry: str, networks: set[str]
) -> None:
    all_networks = {f"{namespace}/blue" for namespace in ("kube-system", "networking", "shop")}

    assert {
        network for network in all_networks if names_network(entry, network, OTHER_NAMESPACE)
    } == networks


def test_a_default_network_without_namespace_is_in_the_namespace_of_multus() -> None:
    pod = PodFacts("shop", "web-0", "uid", node="node-a", annotations={DEFAULT_NETWORK: "blue"})

    assert resolve("eth0", pod, OTHER_NAMESPACE).network == "kube-system/blue"
    in_multus = OTHER_NAMESPACE._replace(multus_namespace="multus")
    assert resolve("eth0", pod, in_multus).network == "multus/blue"
