"""Requests for slots that the webhook adds to a Pod: steps B and C of the Pod webhook.

See docs/reference/admission.md, "Pods".

A Pod with networks on NICs fits only on nodes with these NICs, and one with networks of a provider
only where the provider can bind more addresses. Networks are those of the Pod's annotations after
step A; unknown networks and malformed annotations are ignored here, and Multus reports them. It
never refuses. The Pod is copied, never changed.
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
    """``nics``: of each master one; ``sub_eni``: the provider's resource, "" for none.

    ``namespace``: of a default network that names none, as Multus and agents take it.
    """

    nics: bool = False
    sub_eni: str = ""
    namespace: str = DEFAULT_NAMESPACE


def may_request_slots(pod: Plain, settings: SlotSettings) -> bool:
    """Whether the Pod names any network, and slots are configured."""
    annotations = pod.get("metadata", {}).get("annotations") or {}
    names_any = bool(annotations.get(DEFAULT_NETWORK) or annotations.get(NETWORKS))
    return names_any and bool(settings.nics or settings.sub_eni)


def with_slots(
    pod: Plain, namespace: str, networks: Sequence[Injected], settings: SlotSettings
) -> dict[str, Any]:
    """The Pod with the slots that it needs and that no container requests yet."""
    after = copy.deepcopy(dict(pod))
    if not may_request_slots(pod, settings):
        return after
    known = {(network.namespace, network.nad or network.name): network for network in networks}
    names = dict.fromkeys(_named(pod, namespace, settings.namespace))
    chosen = [known[name] for name in names if name in known]
    slots: dict[str, int] = {}
    if settings.nics:
        masters = (nic_resource(link) for network in chosen for link in _masters(network))
        slots |= {resource: 1 for resource in masters if resource}
    if settings.sub_eni and (bound := sum(map(_is_bound, chosen))):
        slots[settings.sub_eni] = bound
    _request(after["spec"]["containers"], slots)
    return after


def _named(pod: Plain, namespace: str, unsaid: str) -> Iterator[tuple[str, str]]:
    """Namespace and name of every network that the Pod is to be on."""
    annotations = pod.get("metadata", {}).get("annotations") or {}
    for key, default in ((DEFAULT_NETWORK, unsaid), (NETWORKS, namespace)):
        try:
            named = parse_networks(annotations.get(key) or "", default)
        except BadInput:
            continue
        for one in named:
            yield one.namespace, one.name


def _masters(network: Injected) -> Iterator[str]:
    """The NICs of a node that a network stands on; of a bond all its members."""
    spec = network.spec
    links = {"macvlan": spec.macvlan, "ipvlan": spec.ipvlan, "vlan": spec.vlan}
    link = links.get(spec.cni_type or "")
    if link is not None:
        yield from link.master
    elif spec.cni_type == "ipoib" and spec.ipoib is not None and spec.ipoib.master:
        yield spec.ipoib.master


def _is_bound(network: Injected) -> bool:
    """Whether a provider binds the addresses on it."""
    vlan = network.spec.vlan
    mode = (vlan.vlan_mode or "") if vlan is not None else ""
    return is_bound_by_provider(network.spec.cni_type or "", mode)


def _request(containers: list[dict[str, Any]], counts: Mapping[str, int]) -> None:
    """Set requests and limits of the first container, which must be equal."""
    for name, count in counts.items():
        if any(name in amounts for container in containers for amounts in _asked(container)):
            continue
        resources = containers[0].setdefault("resources", {})
        for kind in ("limits", "requests"):
            resources[kind] = (resources.get(kind) or {}) | {name: str(count)}


def _asked(container: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    resources = container.get("resources") or {}
    yield resources.get("limits") or {}
    yield resources.get("requests") or {}
