"""Adds requests for slots to a Pod: steps B and C of the Pod webhook.

A slot is one unit of an extended resource (``core.domain.slots``). Slots keep a Pod off nodes that
cannot serve its networks. Step A (``core.manifests.networks.pod_networks``) comes first, because
it writes a Multus annotation that names networks. No Pod is refused: Multus reports unknown
networks and malformed annotations. See docs/reference/admission.md, "Pods".
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from core.domain.provider.provider_nics import is_bound_by_provider
from core.domain.selection.multus import DEFAULT_NETWORK, NETWORKS_ANNOTATION, parse_networks
from core.domain.slots import nic_resource
from core.errors import BadInput
from core.manifests.networks.pod_networks import InjectableNetwork, JsonObject

DEFAULT_NAMESPACE: Final = "kube-system"


class SlotSettings(NamedTuple):
    """The slots that the Pod webhook requests.

    ``request_nic_slots``: whether to request a slot for each master. ``provider_resource``: the
    resource for networks whose addresses the network provider binds; "" for none.
    ``default_network_namespace``: the namespace of a default network that is given without one.
    """

    request_nic_slots: bool = False
    provider_resource: str = ""
    default_network_namespace: str = DEFAULT_NAMESPACE


def may_request_slots(pod: JsonObject, settings: SlotSettings) -> bool:
    """Whether slots are configured, and the Pod's annotations name networks."""
    annotations = pod.get("metadata", {}).get("annotations") or {}
    has_networks = bool(annotations.get(DEFAULT_NETWORK) or annotations.get(NETWORKS_ANNOTATION))
    return has_networks and bool(settings.request_nic_slots or settings.provider_resource)


def with_slots(
    pod: JsonObject,
    pod_namespace: str,
    networks: Sequence[InjectableNetwork],
    settings: SlotSettings,
) -> dict[str, Any]:
    """A copy of the Pod that requests the slots of its networks.

    A resource that a container requests already is not changed. ``networks``: all networks of the
    cluster.
    """
    changed_pod = copy.deepcopy(dict(pod))
    if not may_request_slots(pod, settings):
        return changed_pod
    by_name = {(network.namespace, network.nad or network.name): network for network in networks}
    names = dict.fromkeys(_networks_of(pod, pod_namespace, settings.default_network_namespace))
    chosen_networks = [by_name[name] for name in names if name in by_name]
    slots: dict[str, int] = {}
    if settings.request_nic_slots:
        masters = (nic_resource(link) for network in chosen_networks for link in _masters(network))
        slots |= {resource: 1 for resource in masters if resource}
    bound_count = sum(map(_is_bound, chosen_networks))
    if settings.provider_resource and bound_count:
        slots[settings.provider_resource] = bound_count
    _add_requests(changed_pod["spec"]["containers"], slots)
    return changed_pod


def _networks_of(
    pod: JsonObject, pod_namespace: str, default_network_namespace: str
) -> Iterator[tuple[str, str]]:
    """Namespace and name of every network in the Pod's annotations."""
    annotations = pod.get("metadata", {}).get("annotations") or {}
    namespaces = {DEFAULT_NETWORK: default_network_namespace, NETWORKS_ANNOTATION: pod_namespace}
    for key, default in namespaces.items():
        try:
            networks = parse_networks(annotations.get(key) or "", default)
        except BadInput:
            continue
        for network in networks:
            yield network.namespace, network.name


def _masters(network: InjectableNetwork) -> Iterator[str]:
    spec = network.spec
    links = {"macvlan": spec.macvlan, "ipvlan": spec.ipvlan, "vlan": spec.vlan}
    link = links.get(spec.cni_type or "")
    if link is not None:
        yield from link.master
    elif spec.cni_type == "ipoib" and spec.ipoib is not None and spec.ipoib.master:
        yield spec.ipoib.master


def _is_bound(network: InjectableNetwork) -> bool:
    vlan = network.spec.vlan
    mode = (vlan.vlan_mode or "") if vlan is not None else ""
    return is_bound_by_provider(network.spec.cni_type or "", mode)


def _add_requests(containers: list[dict[str, Any]], counts: Mapping[str, int]) -> None:
    """Add equal requests and limits to the first container, as Kubernetes requires."""
    for name, count in counts.items():
        if any(name in amounts for container in containers for amounts in _amounts(container)):
            continue
        resources = containers[0].setdefault("resources", {})
        for kind in ("limits", "requests"):
            resources[kind] = (resources.get(kind) or {}) | {name: str(count)}


def _amounts(container: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    resources = container.get("resources") or {}
    yield resources.get("limits") or {}
    yield resources.get("requests") or {}
