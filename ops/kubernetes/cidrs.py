"""Finds the CIDRs of a cluster's Pods and Services in objects and configurations. Pure.

Malformed fields are ignored, because other programs write the objects. See
docs/reference/custom-resource-rules.md, "SpiderCoordinator".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from core.domain.addresses.ip_address import AddressSyntaxError, parse_cidr
from core.errors import BadInput
from core.kubernetes.api_client import Object
from core.manifests.documents import load_yaml

Source = Literal["cluster", "calico", "cilium", "none"]

CNI_NAMES: Final[Mapping[str, Source]] = {
    "calico": "calico",
    "k8s-pod-network": "calico",
    "cilium": "cilium",
    "flannel": "cluster",
}
"""Network name in a CNI configuration -> source of the Pod CIDRs."""

IGNORED: Final = "00-multus"
"""A part of the file name of Multus' own configuration."""

POD_FLAG: Final = "--cluster-cidr="
SERVICE_FLAG: Final = "--service-cluster-ip-range="


class Cidrs(NamedTuple):
    """The CIDRs of Pods and Services; () if they are unknown."""

    pods: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    def or_else(self, other: Cidrs) -> Cidrs:
        """These CIDRs, with unknown ones taken from ``other``."""
        return Cidrs(self.pods or other.pods, self.services or other.services)


def source_of(configurations: Mapping[str, str]) -> Source:
    """The source of the Pod CIDRs, by the first CNI configuration that is not Multus' own.

    ``configurations``: file name -> text.
    """
    for name in sorted(configurations):
        if IGNORED in name:
            continue
        try:
            configuration = json.loads(configurations[name])
        except ValueError:
            return "none"
        network = configuration.get("name") if isinstance(configuration, Mapping) else None
        return CNI_NAMES.get(str(network), "none")
    return "none"


def of_kubeadm(config_map: Object) -> Cidrs:
    """The CIDRs in kube-system/kubeadm-config."""
    text = _mapping(config_map.get("data")).get("ClusterConfiguration", "")
    try:
        documents = [document.value for document in load_yaml(str(text))]
    except BadInput:
        return Cidrs()
    for document in documents:
        networking = document.get("networking") if isinstance(document, Mapping) else None
        if isinstance(networking, Mapping):
            pods, services = networking.get("podSubnet"), networking.get("serviceSubnet")
            return Cidrs(_cidrs_in(pods), _cidrs_in(services))
    return Cidrs()


def of_controller_manager(pod: Object) -> Cidrs:
    """The CIDRs in the flags of a kube-controller-manager."""
    containers = _list(_mapping(pod.get("spec")).get("containers"))
    container = _mapping(containers[0]) if containers else {}
    arguments = [*_list(container.get("command")), *_list(container.get("args"))]
    return Cidrs(_cidrs_of_flag(arguments, POD_FLAG), _cidrs_of_flag(arguments, SERVICE_FLAG))


def of_calico(pools: Iterable[Object]) -> tuple[str, ...]:
    """The CIDRs of Calico's enabled IPPools, oldest first."""
    by_age = sorted(
        pools,
        key=lambda pool: (pool["metadata"].get("creationTimestamp", ""), pool["metadata"]["name"]),
    )
    texts: list[str] = []
    for pool in by_age:
        spec = _mapping(pool.get("spec"))
        if not spec.get("disabled") and "deletionTimestamp" not in pool["metadata"]:
            texts += _cidrs_in(spec.get("cidr"))
    return tuple(texts)


class CiliumIpam(NamedTuple):
    """Cilium's IPAM mode, and the CIDRs for the cluster-pool modes."""

    mode: str
    cidrs: tuple[str, ...]


def of_cilium(config_map: Object) -> CiliumIpam:
    """IPAM mode and CIDRs in Cilium's ConfigMap."""
    data = _mapping(config_map.get("data"))
    ipv4 = _cidrs_in(data.get("cluster-pool-ipv4-cidr"), " ")
    ipv6 = _cidrs_in(data.get("cluster-pool-ipv6-cidr"), " ")
    return CiliumIpam(str(data.get("ipam", "")), ipv4 + ipv6)


def of_cilium_pools(pools: Iterable[Object]) -> tuple[str, ...]:
    """The CIDRs of CiliumPodIPPools, sorted by the pool's name."""
    texts: list[str] = []
    for pool in sorted(pools, key=lambda pool: str(pool["metadata"]["name"])):
        for family in ("ipv4", "ipv6"):
            for cidr in _list(_mapping(_mapping(pool.get("spec")).get(family)).get("cidrs")):
                texts += _cidrs_in(cidr)
    return tuple(texts)


def of_service_cidrs(objects: Iterable[Object]) -> tuple[str, ...]:
    """The CIDRs of ServiceCIDR objects, sorted by the object's name."""
    ordered = sorted(objects, key=lambda body: str(body["metadata"]["name"]))
    return tuple(
        cidr
        for body in ordered
        for text in _list(_mapping(body.get("spec")).get("cidrs"))
        for cidr in _cidrs_in(text)
    )


def _cidrs_of_flag(arguments: Iterable[object], flag: str) -> tuple[str, ...]:
    for argument in arguments:
        if isinstance(argument, str) and argument.startswith(flag):
            return _cidrs_in(argument.removeprefix(flag))
    return ()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _cidrs_in(text: object, separators: str = "") -> tuple[str, ...]:
    """The CIDRs in a text, separated by commas or ``separators``; other words are ignored."""
    if not isinstance(text, str):
        return ()
    for separator in separators:
        text = text.replace(separator, ",")
    prefixes = []
    for word in text.split(","):
        try:
            prefixes.append(str(parse_cidr(word.strip())))
        except AddressSyntaxError:
            continue
    return tuple(prefixes)
