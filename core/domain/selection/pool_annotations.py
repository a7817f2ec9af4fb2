"""Parse the annotations that name pools. The pools are not looked up here.

See docs/reference/pool-selection.md, "Annotations".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.request_facts import NamespaceFacts, PodFacts
from core.domain.selection import jsontext
from core.domain.selection.selection_request import ADDRESSES_MAX, NICS_MAX, NicPools
from core.errors import AllocationError, BadInput, WrongInput

POD_SUBNETS: Final = "ipam.spidernet.io/subnets"
POD_SUBNET: Final = "ipam.spidernet.io/subnet"
AUTO_POOLS_DISABLED: Final = (
    f"it's invalid to use '{POD_SUBNETS}' or '{POD_SUBNET}' annotation when Auto-Pool feature is"
    " disabled"
)
"""Spiderpool's text; users search for it."""

POD_IPPOOLS: Final = "ipam.spidernet.io/ippools"
POD_IPPOOL: Final = "ipam.spidernet.io/ippool"
NAMESPACE_IPV4_POOLS: Final = "ipam.spidernet.io/default-ipv4-ippool"
NAMESPACE_IPV6_POOLS: Final = "ipam.spidernet.io/default-ipv6-ippool"


class IppoolsAnnotation(NamedTuple):
    """The ``ippools`` annotation. ``unnamed``: the interfaces of ``nics`` are indexes."""

    nics: tuple[NicPools, ...]
    unnamed: bool


def read_ippools(pod: PodFacts, interface: str) -> IppoolsAnnotation:
    """Parse ``ippools``, which must have an entry for ``interface``. Raises WrongInput."""
    try:
        return _ippools(pod.annotations[POD_IPPOOLS], interface)
    except BadInput as error:
        raise invalid_pod_annotation(pod, POD_IPPOOLS, error.message) from None


def read_ippool(pod: PodFacts, interface: str, *, clean_gateway: bool) -> NicPools:
    """Parse ``ippool``, which applies to the requested NIC. Raises WrongInput."""
    try:
        value = jsontext.members(jsontext.parse(pod.annotations[POD_IPPOOL]), "value")
        ipv4 = jsontext.texts(value.get("ipv4"), "ipv4")
        ipv6 = jsontext.texts(value.get("ipv6"), "ipv6")
    except BadInput as error:
        raise invalid_pod_annotation(pod, POD_IPPOOL, error.message) from None
    return NicPools(interface, ipv4, ipv6, clean_gateway)


def read_namespace_pools(namespace: NamespaceFacts, key: str) -> tuple[str, ...]:
    """Parse the list of default pools in the annotation ``key``; (): no such annotation.

    Raises AllocationError; WrongInput is only for errors in the Pod.
    """
    if key not in namespace.annotations:
        return ()
    try:
        return jsontext.texts(jsontext.parse(namespace.annotations[key]), "value")
    except BadInput as error:
        raise AllocationError(
            f"{error.message}, in annotation '{key}' of Namespace {namespace.name}",
            subject=f"Namespace/{namespace.name}",
            remedy='write a JSON list of pool names, such as ["pool-a"]',
        ) from None


def invalid_pod_annotation(pod: PodFacts, key: str, detail: str) -> WrongInput:
    """The error if an annotation of the Pod cannot be parsed."""
    return WrongInput(
        f"wrong input, invalid format of Pod annotation '{key}': {detail}",
        subject=f"Pod/{pod.namespace}/{pod.name}",
        remedy="correct the annotation in the Pod template",
    )


def _ippools(document: str, interface: str) -> IppoolsAnnotation:
    entries = jsontext.items(jsontext.parse(document), "value")
    if not entries:
        raise BadInput("value requires at least one item")
    if len(entries) > NICS_MAX:
        raise BadInput(f"{len(entries)} items, at most {NICS_MAX} NICs are possible")
    nics = tuple(_nic(entry) for entry in entries)
    addresses = sum(len(list(nic.lists())) for nic in nics)  # one for each list of pools
    if addresses > ADDRESSES_MAX:
        raise BadInput(f"{addresses} addresses, at most {ADDRESSES_MAX} can be claimed together")
    interfaces = [nic.interface for nic in nics if nic.interface]
    if not interfaces:
        indexed = tuple(nic._replace(interface=str(index)) for index, nic in enumerate(nics))
        return IppoolsAnnotation(indexed, unnamed=True)
    _check_names(interfaces, len(nics), interface)
    return IppoolsAnnotation(nics, unnamed=False)


def _check_names(interfaces: list[str], nic_count: int, interface: str) -> None:
    if len(interfaces) < nic_count:
        raise BadInput("NIC should be either all specified or all unspecified")
    checked: set[str] = set()
    for name in interfaces:
        if name in checked:
            raise BadInput(f"duplicate interface {name}")
        checked.add(name)
    if interface not in checked:
        raise BadInput(f"interface {interface} must be specified")


def _nic(entry: object) -> NicPools:
    value = jsontext.members(entry, "each item")
    return NicPools(
        jsontext.text(value.get("interface"), "interface"),
        jsontext.texts(value.get("ipv4"), "ipv4"),
        jsontext.texts(value.get("ipv6"), "ipv6"),
        jsontext.flag(value.get("cleangateway"), "cleangateway"),
    )
