"""Parses the annotations ``subnets``, ``subnet`` and ``ippool-ip-number``.

Agents parse the annotations of Pods, and controllers those of Pod templates. Whether the subnets
exist is not checked.

See docs/reference/automatic-pool-rules.md, "Annotations of the Pod template".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import V4, V6, Family
from core.domain.autopools.pool_names import IP_NUMBER, RECLAIM_LABEL
from core.domain.autopools.pool_size import IpNumber, read_number
from core.domain.selection import jsontext
from core.domain.selection.pool_annotations import POD_SUBNET, POD_SUBNETS
from core.domain.selection.selection_request import CLUSTER_INTERFACE, FAMILY_NAMES, NICS_MAX
from core.errors import BadInput, WrongInput

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class NicSubnets(NamedTuple):
    """The subnets of one NIC, "" for a family that is not requested."""

    interface: str
    ipv4: str = ""
    ipv6: str = ""

    def families(self) -> Iterator[tuple[Family, str]]:
        """(family, subnet) of each requested family, IPv4 first."""
        if self.ipv4:
            yield V4, self.ipv4
        if self.ipv6:
            yield V6, self.ipv6


class SubnetRequest(NamedTuple):
    """A request for automatic pools: one pool for each NIC and family.

    ``number``: the number of addresses of each pool; None means the cluster's default. ``reclaim``:
    whether the pools are deleted with the application.
    """

    nics: tuple[NicSubnets, ...]
    number: IpNumber | None = None
    reclaim: bool = True

    def find(self, interface: str) -> NicSubnets | None:
        return next((nic for nic in self.nics if nic.interface == interface), None)


def requests_pools(annotations: Mapping[str, str]) -> bool:
    """Whether the annotations request automatic pools, even if they cannot be parsed."""
    return POD_SUBNETS in annotations or POD_SUBNET in annotations


def read_request(annotations: Mapping[str, str], subject: str) -> SubnetRequest | None:
    """The request of a Pod or Pod template; None if the annotations request no pools.

    ``subnets`` overrides ``subnet``. Raises WrongInput with this ``subject``.
    """
    if POD_SUBNETS in annotations:
        key, parse = POD_SUBNETS, _parse_list
    elif POD_SUBNET in annotations:
        key, parse = POD_SUBNET, _parse_single
    else:
        return None
    number = None
    reclaim = True
    try:
        nics = parse(annotations[key])
        if IP_NUMBER in annotations:
            key = IP_NUMBER
            number = read_number(annotations[key])
        if RECLAIM_LABEL in annotations:
            key = RECLAIM_LABEL
            reclaim = _parse_bool(annotations[key])
    except BadInput as error:
        raise WrongInput(
            f"wrong input, invalid format of Pod annotation '{key}': {error.message}",
            subject=subject,
            remedy="correct the annotation in the Pod template",
        ) from None
    return SubnetRequest(nics, number, reclaim)


def _parse_single(text: str) -> tuple[NicSubnets, ...]:
    nic = _nic(jsontext.parse(text), "value")
    return (nic._replace(interface=nic.interface or CLUSTER_INTERFACE),)


def _parse_list(text: str) -> tuple[NicSubnets, ...]:
    entries = jsontext.items(jsontext.parse(text), "value")
    if not entries:
        raise BadInput("value requires at least one item")
    if len(entries) > NICS_MAX:
        raise BadInput(f"{len(entries)} items, at most {NICS_MAX} NICs are possible")
    nics = [_nic(entry, "each item") for entry in entries]
    if len(nics) == 1 and not nics[0].interface:
        nics = [nics[0]._replace(interface=CLUSTER_INTERFACE)]
    interfaces: set[str] = set()
    subnets: set[tuple[Family, str]] = set()
    for nic in nics:
        if not nic.interface:
            raise BadInput("each item needs an interface if there are several items")
        if nic.interface in interfaces:
            raise BadInput(f"duplicate interface {nic.interface}")
        interfaces.add(nic.interface)
        for family, subnet in nic.families():
            if (family, subnet) in subnets:
                raise BadInput(f"duplicate {FAMILY_NAMES[family]} subnet {subnet}")
            subnets.add((family, subnet))
    return tuple(nics)


def _nic(entry: object, what: str) -> NicSubnets:
    value = jsontext.members(entry, what)
    ipv4, ipv6 = (_first(value.get(family), family) for family in ("ipv4", "ipv6"))
    if not ipv4 and not ipv6:
        raise BadInput("neither an IPv4 nor an IPv6 subnet is specified")
    return NicSubnets(jsontext.text(value.get("interface"), "interface"), ipv4, ipv6)


def _first(value: object, what: str) -> str:
    """The first name of a list, "" for an empty list; further names are ignored."""
    names = jsontext.texts(value, what)
    if names and not names[0]:
        raise BadInput(f"the first subnet name in {what} is empty")
    return names[0] if names else ""


def _parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise BadInput(f"{text[:80]!r} is neither true nor false")
