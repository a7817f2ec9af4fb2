"""Adds requests for slots to a Pod: steps B and C of the Pod webhook.

See docs/reference/admission.md, "Pods".

With them a Pod is scheduled only on nodes that have the NICs of its networks, and to which the
network provider can bind more addresses. The networks are those of the Pod's annotations after
step A. Unknown networks and malformed annotations are ignored here, because Multus reports them.
Refuses nothing. The Pod is copied, never changed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from core.domain.devices import nic_resource
from core.domain.provider.provider_nics import is_bound_by_provider
from core.domain.selection.multus import DEFAULT_NETWORK, NETWORKS, parse_networks
from core.errors import BadInput
from core.manifests.networks.injection import Injected, Plain

DEFAULT_NAMESPACE: Final = "kube-system"


class SlotSettings(NamedTuple):
    """The slots to request.

    ``nics``: one slot of each master. ``sub_eni``: the provider's resource, "" for none.
    ``namespace``: that of a default network without one, as in Multus and agents.
    """

    nics: bool = False
    sub_eni: str = ""
    namespace: str = DEFAULT_NAMESPACE


def may_request_slots(pod: Plain, settings: SlotSettings) -> bool:
    """Whether the Pod names networks, and slots are configured."""
    annotations = pod.get("metadata", {}).get("annotations") or {}
    has_networks = bool(annotations.get(DEFAULT_NETWORK) or annotations.get(NETWORKS))
    return has_networks and bool(settings.nics or settings.sub_eni)


def with_slots(
    pod: Plain, namespace: str, networks: Sequence[Injected], settings: SlotSettings
) -> dict[str, Any]:
    """The Pod with requests for the slots that it needs and does not request yet."""
    after = copy.deepcopy(dict(pod))
    if not may_request_slots(pod, settings):
        return after
    by_name = {(network.namespace, network.nad or network.name): network for network in networks}
    names = dict.fromkeys(_networks_of(pod, namespace, settings.namespace))
    chosen = [by_name[name] for name in names if name in by_name]
    slots: dict[str, int] = {}
    if settings.nics:
        masters = (nic_resource(link) for network in chosen for link in _masters(network))
        slots |= {resource: 1 for resource in masters if resource}
    bound_count = sum(map(_is_bound, chosen))
    if settings.sub_eni and bound_count:
        slots[settings.sub_eni] = bound_count
    _request(after["spec"]["containers"], slots)
    return after


def _networks_of(
    pod: Plain, pod_namespace: str, default_network_namespace: str
) -> Iterator[tuple[str, str]]:
    """Namespace and name of every network in the Pod's annotations."""
    annotations = pod.get("metadata", {}).get("annotations") or {}
    namespaces = {DEFAULT_NETWORK: default_network_namespace, NETWORKS: pod_namespace}
    for key, default in namespaces.items():
        try:
            networks = parse_networks(annotations.get(key) or "", default)
        except BadInput:
            continue
        for network in networks:
            yield network.namespace, network.name


def _masters(network: Injected) -> Iterator[str]:
    """The NICs of a node that a network uses: its master, or all members of a bond."""
    spec = network.spec
    links = {"macvlan": spec.macvlan, "ipvlan": spec.ipvlan, "vlan": spec.vlan}
    link = links.get(spec.cni_type or "")
    if link is not None:
        yield from link.master
    elif spec.cni_type == "ipoib" and spec.ipoib is not None and spec.ipoib.master:
        yield spec.ipoib.master


def _is_bound(network: Injected) -> bool:
    """Whether a network provider binds the network's addresses."""
    vlan = network.spec.vlan
    mode = (vlan.vlan_mode or "") if vlan is not None else ""
    return is_bound_by_provider(network.spec.cni_type or "", mode)


def _request(containers: list[dict[str, Any]], counts: Mapping[str, int]) -> None:
    """Set requests and limits of the first container; extended resources need equal ones."""
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
