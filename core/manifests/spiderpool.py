"""Parse the objects of a Spiderpool cluster, from kubectl's output or from the API server.

Allocated addresses are read from the status of each pool. Other kinds are skipped and counted.
See docs/reference/custom-resources.md, "SpiderIPPool" to "SpiderEndpoint".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from core.domain.addresses.ip_address import AddressSyntaxError, parse_address, parse_cidr
from core.domain.claims.takeover import AllocatedIP, Finding, ForeignCluster, ForeignPool
from core.domain.configuration.commands import ApplyPool, ApplyReservation, ApplySubnet
from core.domain.fixed.fixed_address_owners import IPAM_CLAIM_SUFFIX
from core.domain.model import (
    Endpoint,
    FixedKind,
    Nic,
    Pool,
    Reservation,
    Route,
    Subnet,
    pod_holder,
    stateful_holder,
)
from core.domain.validation.common_rules import shortened
from core.errors import BadInput, Refused
from core.manifests.commands import apply_command
from core.manifests.kinds.endpoints import EndpointNic, EndpointReport
from core.manifests.kinds.pools import PoolManifest, PoolReport
from core.manifests.kinds.records import OpenMetadata
from core.manifests.manifest_parser import objects, read_object
from core.manifests.schema_errors import JSON_ERRORS

T = TypeVar("T")

TEXT_BYTES_MAX: Final = 256 * 1024 * 1024
"""The most bytes of one JSON document: enough for about 100,000 SpiderEndpoints."""

DOCUMENT_SEPARATOR: Final = "\n---\n"

EXPORT_REMEDY: Final = "correct this field, or export the object again with `kubectl get -o yaml`"

PARSED_KINDS: Final = ("SpiderIPPool", "SpiderSubnet", "SpiderReservedIP", "SpiderEndpoint")
FIXED_KINDS: Final[Mapping[str, FixedKind]] = {
    "StatefulSet": "statefulset",
    "VirtualMachine": "vm",
    "VirtualMachineInstance": "vm",
}
"""``ownerControllerType`` of a SpiderEndpoint that outlives its Pod -> kind of fixed address."""


class _EndpointManifest(Struct, frozen=True):
    metadata: OpenMetadata
    status: EndpointReport


class _AllocatedIPValue(Struct, rename="camel", frozen=True):
    pod: str
    pod_uid: str = ""


class Dump(NamedTuple):
    """The parsed objects. ``skipped`` maps a kind to its number of skipped objects."""

    cluster: ForeignCluster
    skipped: dict[str, int]


def read_spiderpool(values: Iterable[tuple[str, object]]) -> Dump:
    """Parse (location, object) pairs. Raises BadInput."""
    pools: list[ForeignPool] = []
    subnets: list[Subnet] = []
    reservations: list[Reservation] = []
    endpoints: list[Endpoint] = []
    findings: list[Finding] = []
    skipped: Counter[str] = Counter()
    for location, value in values:
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if kind == "SpiderEndpoint":
            endpoints.append(_endpoint(value, location, findings))
        elif kind not in PARSED_KINDS:
            skipped[str(kind)[:80]] += 1
        else:
            match _parse_manifest(value, location):
                case PoolManifest() as body, Pool() as pool:
                    deleting = body.metadata.deletion_timestamp is not None
                    pools.append(
                        ForeignPool(pool, _allocated_ips(pool, body.status, location), deleting)
                    )
                case _, Subnet() as subnet:
                    subnets.append(subnet)
                case _, Reservation() as reservation:
                    reservations.append(reservation)
    cluster = ForeignCluster(
        tuple(pools), tuple(subnets), tuple(reservations), tuple(endpoints), tuple(findings)
    )
    return Dump(cluster, dict(skipped))


def values_in(texts: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield (location, object) for each object of JSON or YAML texts. Raises BadInput."""
    for text in chain.from_iterable(map(_parts, texts)):
        if not text.lstrip().startswith("{"):
            yield from objects(text)
            continue
        size = len(text.encode())
        if size > TEXT_BYTES_MAX:
            raise BadInput(
                f"{size} bytes of JSON are more than the limit of {TEXT_BYTES_MAX}",
                remedy="pass a separate file for each kind",
            )
        try:
            value = msgspec.json.decode(text)
        except JSON_ERRORS as error:
            yield from _flow_mapping(text, error)
            continue
        items = value.get("items")
        if isinstance(items, list):
            yield from ((f"items[{index}]", item) for index, item in enumerate(items))
        else:
            yield "object", value


def _flow_mapping(text: str, json_error: Exception) -> list[tuple[str, object]]:
    """The objects of a YAML text that starts with ``{``, as JSON does. Raises BadInput."""
    try:
        return list(objects(text))
    except BadInput as error:
        raise BadInput(
            f"the text is neither JSON ({json_error}) nor YAML ({error.message})",
            remedy="export the objects again with `kubectl get -o json`",
        ) from None


def _parts(text: str) -> list[str]:
    """The JSON documents of a text. YAML documents are not separated here."""
    return text.split(DOCUMENT_SEPARATOR) if text.lstrip().startswith("{") else [text]


def _parse_manifest(value: object, location: str) -> tuple[object, object]:
    """The parsed manifest, and the pool, subnet or reservation in it."""
    body = read_object(value, location)
    try:
        match apply_command(body):
            case ApplyPool(pool):
                return body, pool
            case ApplySubnet(subnet):
                return body, subnet
            case ApplyReservation(reservation):
                return body, reservation
    except Refused as error:
        raise BadInput(f"{location}: {error}", remedy=EXPORT_REMEDY) from None
    raise AssertionError("expected a pool, a subnet or a reservation")


def _allocated_ips(pool: Pool, status: object, location: str) -> tuple[AllocatedIP, ...]:
    where = f"{location} (SpiderIPPool {pool.name}): status.allocatedIPs"
    text = convert(status or {}, PoolReport, where).allocated_ips
    if not text:
        return ()
    try:
        values = msgspec.json.decode(text, type=dict[str, _AllocatedIPValue])
    except JSON_ERRORS as error:
        raise BadInput(
            f"{where}: {error}", subject="status.allocatedIPs", remedy=EXPORT_REMEDY
        ) from None
    entries = []
    for address, value in values.items():
        namespace, _, name = value.pod.partition("/")
        try:
            canonical = str(parse_address(address))
        except AddressSyntaxError as error:
            raise BadInput(
                f"{where}: {error}", subject="status.allocatedIPs", remedy=EXPORT_REMEDY
            ) from None
        entries.append(AllocatedIP(canonical, pool.name, namespace, name, value.pod_uid))
    return tuple(entries)


def _endpoint(value: object, location: str, findings: list[Finding]) -> Endpoint:
    body = convert(value, _EndpointManifest, f"{location} (SpiderEndpoint)")
    metadata, status = body.metadata, body.status
    namespace, current = metadata.namespace or "default", status.current
    where = f"{location} (SpiderEndpoint {namespace}/{metadata.name})"
    fixed_kind = FIXED_KINDS.get(status.owner_controller_type)
    if metadata.name.endswith(IPAM_CLAIM_SUFFIX):
        fixed_kind = "ipamclaim"  # the name of Orbweaver's own report, whose owner is a Pod
    if any(owner.kind == "Pod" for owner in metadata.owner_references or ()):
        fixed_kind = None  # Kubernetes deletes this SpiderEndpoint with its Pod
    holder = (
        pod_holder(current.uid)
        if fixed_kind is None
        else stateful_holder(fixed_kind, namespace, metadata.name)
    )
    nics = []
    for nic in current.ips:
        routes, faults = _routes(nic)
        nics.append(_nic(nic, routes, where))
        done = "the addresses are taken over without this route"
        subject = f"SpiderEndpoint/{namespace}/{metadata.name}"
        findings += [Finding(subject, fault, done) for fault in faults]
    return Endpoint(
        namespace,
        metadata.name,
        current.uid,
        current.node,
        holder,
        status.owner_controller_type,
        status.owner_controller_name or metadata.name,
        tuple(nics),
    )


def _routes(nic: EndpointNic) -> tuple[tuple[Route, ...], list[str]]:
    """The routes, and the faults of those that cannot be read."""
    routes, faults = [], []
    for route in nic.routes or ():
        try:
            is_one_family = parse_cidr(route.dst).family == parse_address(route.gw).family
            fault = "" if is_one_family else "dst and gw are of different IP families"
        except AddressSyntaxError as error:
            fault = str(error)
        if fault:
            name = f"route {shortened(route.dst)} via {shortened(route.gw)}"
            faults.append(f"{name} of {nic.interface or 'a NIC without a name'}: {fault}")
        else:
            routes.append(Route(route.dst, route.gw))
    return tuple(routes), faults


def _nic(nic: EndpointNic, routes: tuple[Route, ...], where: str) -> Nic:
    return Nic(
        nic.interface,
        _cidr(nic.ipv4, where),
        nic.ipv4_pool or "",
        nic.ipv4_gateway or "",
        _cidr(nic.ipv6, where),
        nic.ipv6_pool or "",
        nic.ipv6_gateway or "",
        clean_gateway=bool(nic.clean_gateway),
        routes=routes,
        vlan=nic.vlan or 0,
        mac=nic.mac or "",
    )


def _cidr(text: str | None, where: str) -> str:
    try:
        return parse_cidr(text).text_with_host_bits() if text else ""
    except AddressSyntaxError as error:
        raise BadInput(f"{where}: {error}", remedy=EXPORT_REMEDY) from None


def convert(value: object, schema: type[T], where: str) -> T:
    """Convert an object to its schema. Raises BadInput."""
    try:
        return msgspec.convert(value, schema)
    except msgspec.ValidationError as error:
        raise BadInput(f"{where}: {error}", remedy=EXPORT_REMEDY) from None
