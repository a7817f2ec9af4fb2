"""Find the net-attach-def of a NIC in the annotations of the Pod.

See docs/reference/pool-selection.md, "Multus network" and docs/reference/annotations.md, "Networks
of interfaces". The net-attach-def is not looked up here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.request_facts import PodFacts
from core.domain.selection import jsontext
from core.domain.selection.selection_request import CLUSTER_INTERFACE, SelectionSettings
from core.errors import BadInput

CLAIM_REFERENCE: Final = "ipam-claim-reference"

DEFAULT_NETWORK: Final = "v1.multus-cni.io/default-network"
NETWORKS_ANNOTATION: Final = "k8s.v1.cni.cncf.io/networks"
INTERFACE_CHARS_MAX: Final = 15  # IFNAMSIZ of Linux without the closing NUL

_JSON_MARKS: Final = frozenset('[{"')


class NetworkSelectionElement(NamedTuple):
    """One network in an annotation. ``claim``: its IPAMClaim."""

    namespace: str
    name: str
    interface: str = ""
    claim: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class NetworkResolution(NamedTuple):
    """The net-attach-def of a NIC (``namespace/name``), or the problem.

    Both are "" for NIC ``eth0`` if no cluster network is configured.
    """

    network: str = ""
    problem: str = ""


def resolve(interface: str, pod: PodFacts, settings: SelectionSettings) -> NetworkResolution:
    """The network of a NIC. Never raises. Problems have the texts of Spiderpool.

    ``interface``: the name, or the index if the annotation of the pools names no interfaces.
    """
    try:
        if interface in (CLUSTER_INTERFACE, "0"):
            return _cluster_network(pod, settings)
        return _attached_network(interface, pod)
    except BadInput as error:
        return NetworkResolution(problem=f"failed to parse pod network annotation: {error.message}")


def names_network(entry: str, network: str, settings: SelectionSettings) -> bool:
    """Whether an entry of ``multusName`` names the net-attach-def ``network``.

    An entry without a namespace matches the namespaces of Multus and of the agent.
    """
    if "/" in entry:
        return entry == network
    namespaces = (settings.multus_namespace, settings.agent_namespace)
    return network in {f"{namespace}/{entry}" for namespace in namespaces}


def parse_networks(text: str, default_namespace: str) -> list[NetworkSelectionElement]:
    """Parse a JSON list, or the form ``namespace/name@interface,...``. Raises BadInput."""
    if _JSON_MARKS.isdisjoint(text):
        networks = [_from_short_form(item.strip(), default_namespace) for item in text.split(",")]
    else:
        entries = jsontext.items(jsontext.parse(text), "the list of networks")
        networks = [_from_object(entry, default_namespace) for entry in entries]
    for network in networks:
        _check(network)
    return networks


def _cluster_network(pod: PodFacts, settings: SelectionSettings) -> NetworkResolution:
    text = pod.annotations.get(DEFAULT_NETWORK) or settings.multus_cluster_network
    if not text:
        return NetworkResolution()
    networks = parse_networks(text, settings.multus_namespace)
    if not networks:
        return NetworkResolution()
    return NetworkResolution(str(networks[0]))


def _attached_network(interface: str, pod: PodFacts) -> NetworkResolution:
    text = pod.annotations.get(NETWORKS_ANNOTATION)
    networks = parse_networks(text, pod.namespace) if text else []
    for index, network in enumerate(networks, start=1):
        if interface in (str(index), network.interface or f"net{index}"):
            return NetworkResolution(str(network))
    attachments = " ".join(
        f"{network}@{network.interface or f'net{index}'}"
        for index, network in enumerate(networks, start=1)
    )
    return NetworkResolution(
        problem=f"unknown: no matched multus object for NIC '{interface}'. "
        f"The multus network-attachments: [{attachments}]"
    )


def _from_short_form(item: str, default_namespace: str) -> NetworkSelectionElement:
    path, _, interface = item.partition("@")
    namespace, slash, name = path.rpartition("/")
    if "@" in interface or "/" in namespace or (slash and not namespace):
        raise BadInput(f"'{item}' is not of the form namespace/name@interface")
    return NetworkSelectionElement(namespace or default_namespace, name, interface)


def _from_object(entry: object, default_namespace: str) -> NetworkSelectionElement:
    value = jsontext.members(entry, "each network")
    return NetworkSelectionElement(
        jsontext.text(value.get("namespace"), "namespace") or default_namespace,
        jsontext.text(value.get("name"), "name"),
        jsontext.text(value.get("interface"), "interface"),
        jsontext.text(value.get(CLAIM_REFERENCE), CLAIM_REFERENCE),
    )


def _check(network: NetworkSelectionElement) -> None:
    if not network.name:
        raise BadInput("a network has no name")
    interface = network.interface
    if len(interface) > INTERFACE_CHARS_MAX:
        raise BadInput(f"interface name '{interface}' exceeds {INTERFACE_CHARS_MAX} characters")
    if "/" in interface or any(character.isspace() for character in interface):
        raise BadInput(f"interface name '{interface}' has a '/' or white space")
