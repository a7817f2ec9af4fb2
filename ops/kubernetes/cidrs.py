"""Where a cluster says which CIDRs its Pods and Services have. Pure.

See docs/reference/custom-resource-rules.md, "SpiderCoordinator".

Every source is a text or an object that somebody else wrote, so whatever is malformed counts as not
said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from core.domain.addresses.ip_address import AddressSyntaxError, parse_cidr
from core.errors import BadInput
from core.kubernetes.api import Object
from core.manifests.documents import load_yaml

Source = Literal["cluster", "calico", "cilium", "none"]

CNI_NAMES: Final[Mapping[str, Source]] = {
    "calico": "calico",
    "k8s-pod-network": "calico",
    "cilium": "cilium",
    "flannel": "cluster",
}
"""The name of the overlay's CNI configuration -> where its Pod CIDRs are found."""

IGNORED: Final = "00-multus"
POD_FLAG: Final = "--cluster-cidr="
SERVICE_FLAG: Final = "--service-cluster-ip-range="


class Cidrs(NamedTuple):
    """Of Pods and of Services; () for what nobody says."""

    pods: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    def or_else(self, other: Cidrs) -> Cidrs:
        """With what only the other one knows."""
        return Cidrs(self.pods or other.pods, self.services or other.services)


def source_of(configurations: Mapping[str, str]) -> Source:
    """Which overlay runs, by the first CNI configuration that is not Multus' (name -> text)."""
    for name in sorted(configurations):
        if IGNORED in name:
            continue
        try:
            said = json.loads(configurations[name])
        except ValueError:
            return "none"
        called = said.get("name") if isinstance(said, Mapping) else None
        return CNI_NAMES.get(str(called), "none")
    return "none"


def of_kubeadm(config_map: Object) -> Cidrs:
    """What kube-system/kubeadm-config says."""
    text = _members(config_map.get("data")).get("ClusterConfiguration", "")
    try:
        documents = [one.value for one in load_yaml(str(text))]
    except BadInput:
        return Cidrs()
    for document in documents:
        networking = document.get("networking") if isinstance(document, Mapping) else None
        if isinstance(networking, Mapping):
            pods, services = networking.get("podSubnet"), networking.get("serviceSubnet")
            return Cidrs(_list(pods), _list(services))
    return Cidrs()


def of_controller_manager(pod: Object) -> Cidrs:
    """What the flags of a kube-controller-manager say."""
    containers = _items(_members(pod.get("spec")).get("containers"))
    container = _members(containers[0]) if containers else {}
    words = [*_items(container.get("command")), *_items(container.get("args"))]
    return Cidrs(_flag(words, POD_FLAG), _flag(words, SERVICE_FLAG))


def of_calico(pools: Iterable[Object]) -> tuple[str, ...]:
    """The CIDRs of Calico's IPPools that serve, by their age."""
    serving = [
        (one["metadata"], spec)
        for one in pools
        if not (spec := _members(one.get("spec"))).get("disabled")
        and "deletionTimestamp" not in one["metadata"]
    ]
    serving.sort(key=lambda each: (each[0].get("creationTimestamp", ""), each[0]["name"]))
    return tuple(cidr for _, spec in serving for cidr in _list(spec.get("cidr")))


class CiliumAnswer(NamedTuple):
    """``mode`` is Cilium's; ``cidrs`` for the cluster-pool modes."""

    mode: str
    cidrs: tuple[str, ...]


def of_cilium(config_map: Object) -> CiliumAnswer:
    """How Cilium's own configuration says that it gives out addresses."""
    data = _members(config_map.get("data"))
    four = _list(data.get("cluster-pool-ipv4-cidr"), " ")
    six = _list(data.get("cluster-pool-ipv6-cidr"), " ")
    return CiliumAnswer(str(data.get("ipam", "")), (*four, *six))


def of_cilium_pools(pools: Iterable[Object]) -> tuple[str, ...]:
    """The CIDRs of CiliumPodIPPools, by name."""
    found: list[str] = []
    for one in sorted(pools, key=lambda each: str(each["metadata"]["name"])):
        for family in ("ipv4", "ipv6"):
            for cidr in _items(_members(_members(one.get("spec")).get(family)).get("cidrs")):
                found += _list(cidr)
    return tuple(found)


def of_service_cidrs(objects: Iterable[Object]) -> tuple[str, ...]:
    """The CIDRs of ServiceCIDR objects, by name."""
    ordered = sorted(objects, key=lambda each: str(each["metadata"]["name"]))
    return tuple(
        cidr
        for one in ordered
        for text in _items(_members(one.get("spec")).get("cidrs"))
        for cidr in _list(text)
    )


def _flag(words: Iterable[object], flag: str) -> tuple[str, ...]:
    texts = (word for word in words if isinstance(word, str))
    return next((_list(text.removeprefix(flag)) for text in texts if text.startswith(flag)), ())


def _members(value: object) -> Mapping[str, Any]:
    """The members of an object; none of anything else."""
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> list[Any]:
    """The items of a list; none of anything else."""
    return value if isinstance(value, list) else []


def _list(text: object, separators: str = "") -> tuple[str, ...]:
    """The CIDRs of a comma list; what is none is left out."""
    if not isinstance(text, str):
        return ()
    for separator in separators:
        text = text.replace(separator, ",")
    found = []
    for part in text.split(","):
        try:
            found.append(str(parse_cidr(part.strip())))
        except AddressSyntaxError:
            continue
    return tuple(found)
