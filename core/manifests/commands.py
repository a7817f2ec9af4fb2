"""Makes commands from typed manifests.

Inputs that a domain object cannot store are refused here: ``gateway: ""``, and an IP version that
is neither 4 nor 6, or is missing and cannot be derived.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.domain.addresses.ip_address import Family
from core.domain.autopools.applications import REPLICATED_KINDS
from core.domain.configuration.commands import (
    ApplyPool,
    ApplyRecord,
    ApplyReservation,
    ApplySubnet,
    Command,
    DeletePool,
    DeleteRecord,
    DeleteReservation,
    DeleteSubnet,
)
from core.domain.events import RecordDefined
from core.domain.model import Pool, Reservation, Route, Scale, Subnet, Workload
from core.domain.patterns.labels import LabelSelector
from core.domain.validation.common_rules import (
    ObjectReference,
    family_of_item,
    family_of_subnet,
    resolve_family,
    shortened,
)
from core.domain.validation.record_rules import NAMESPACED_KINDS
from core.errors import Refused
from core.manifests.kinds.addresses import RouteSpec
from core.manifests.kinds.fields import SelectorSpec, selector_of
from core.manifests.kinds.pools import (
    PoolManifest,
    PoolSpec,
    ReservationManifest,
    SubnetManifest,
    SubnetSpec,
)
from core.manifests.kinds.records import (
    OwnerReference,
    RecordManifest,
    WorkloadManifest,
    WorkloadSpec,
)
from core.manifests.kinds.services import ServiceManifest, ServiceSpec, SliceManifest
from core.manifests.schemas import Body, RecordBody
from core.manifests.services import service_of, slice_of

REPLICAS_DEFAULT: Final = 1
"""A Deployment, ReplicaSet or StatefulSet without ``replicas`` has this number."""

DEFAULT_NAMESPACE: Final = "default"
"""A Pod or application without a namespace is in this one, as in kubectl."""


def apply_command(body: Body) -> Command:
    """The command that applies an object.

    Raises Refused for an IP version or a gateway that a domain object cannot store.
    """
    match body:
        case PoolManifest():
            return ApplyPool(_pool(body))
        case SubnetManifest():
            return ApplySubnet(_subnet(body))
        case ReservationManifest():
            return ApplyReservation(_reservation(body))
        case RecordManifest() | WorkloadManifest() | ServiceManifest() | SliceManifest():
            return ApplyRecord(_record(body))


def delete_command(body: Body) -> Command:
    """The command that deletes an object; reads only kind, namespace and name."""
    match body:
        case PoolManifest():
            return DeletePool(body.metadata.name)
        case SubnetManifest():
            return DeleteSubnet(body.metadata.name)
        case ReservationManifest():
            return DeleteReservation(body.metadata.name)
        case RecordManifest() | WorkloadManifest() | ServiceManifest() | SliceManifest():
            return DeleteRecord(body.kind, _namespace(body), body.metadata.name)


def _pool(body: PoolManifest) -> Pool:
    spec = body.spec
    subject = ObjectReference(body.kind, body.metadata.name)
    return Pool(
        name=body.metadata.name,
        family=_family(spec, subject),
        subnet=spec.subnet,
        ips=_texts(spec.ips),
        exclude_ips=_texts(spec.exclude_ips),
        gateway=_gateway(spec, subject),
        routes=_routes(spec.routes),
        pod_affinity=_selector(spec.pod_affinity),
        namespace_affinity=_selector(spec.namespace_affinity),
        namespace_names=_texts(spec.namespace_name),
        node_affinity=_selector(spec.node_affinity),
        node_names=_texts(spec.node_name),
        multus_names=_texts(spec.multus_name),
        default=bool(spec.default),
        disabled=bool(spec.disable),
        labels=body.metadata.labels or {},
        annotations=body.metadata.annotations or {},
    )


def _subnet(body: SubnetManifest) -> Subnet:
    spec = body.spec
    subject = ObjectReference(body.kind, body.metadata.name)
    return Subnet(
        name=body.metadata.name,
        family=_family(spec, subject),
        subnet=spec.subnet,
        ips=_texts(spec.ips),
        exclude_ips=_texts(spec.exclude_ips),
        gateway=_gateway(spec, subject),
        routes=_routes(spec.routes),
        labels=body.metadata.labels or {},
        annotations=body.metadata.annotations or {},
    )


def _family(spec: PoolSpec | SubnetSpec, subject: ObjectReference) -> Family:
    source = f"spec.subnet {shortened(spec.subnet)!r}"
    return resolve_family(spec.ip_version, family_of_subnet(spec.subnet), subject, source)


def _gateway(spec: PoolSpec | SubnetSpec, subject: ObjectReference) -> str:
    """The gateway; "" if the field is missing. Raises Refused if the field is empty."""
    if spec.gateway == "":
        remedy = "remove the field gateway if the subnet has no gateway"
        message = "the text is empty, which is not an IP address"
        refusal = subject.refuse("Invalid", "gateway-syntax", "spec.gateway", message, remedy)
        raise Refused((refusal,))
    return spec.gateway or ""


def _routes(specs: Sequence[RouteSpec] | None) -> tuple[Route, ...] | None:
    """None if the field is missing: the pool then inherits its subnet's routes."""
    return None if specs is None else tuple(Route(spec.dst, spec.gw) for spec in specs)


def _reservation(body: ReservationManifest) -> Reservation:
    ips = _texts(body.spec.ips)
    subject = ObjectReference(body.kind, body.metadata.name)
    derived = family_of_item(ips[0]) if ips else None
    source = f"spec.ips[0] {shortened(ips[0])!r}" if ips else "spec.ips, which is empty"
    return Reservation(
        name=body.metadata.name,
        family=resolve_family(body.spec.ip_version, derived, subject, source),
        ips=ips,
        labels=body.metadata.labels or {},
        annotations=body.metadata.annotations or {},
    )


def _record(body: RecordBody) -> RecordDefined:
    metadata = body.metadata
    owner = next((owner for owner in metadata.owner_references or () if owner.controller), None)
    if body.kind not in NAMESPACED_KINDS or owner is None:
        owner = OwnerReference()
    record = RecordDefined(
        kind=body.kind,
        namespace=_namespace(body),
        name=metadata.name,
        labels=metadata.labels or {},
        annotations=metadata.annotations or {},
        owner_kind=owner.kind,
        owner_name=owner.name,
        owner_api_version=owner.api_version,
    )
    match body:
        case WorkloadManifest():
            return _application_record(record, body)
        case ServiceManifest():
            return record._replace(service=service_of(body.spec or ServiceSpec()))
        case SliceManifest():
            return record._replace(slice=slice_of(body, record.labels))
        case RecordManifest():
            return record


def _application_record(record: RecordDefined, body: WorkloadManifest) -> RecordDefined:
    spec = body.spec or WorkloadSpec()
    replicas = REPLICAS_DEFAULT if spec.replicas is None else spec.replicas
    return record._replace(
        replicas=replicas if body.kind in REPLICATED_KINDS else 0,
        ordinals_start=(spec.ordinals.start or 0) if spec.ordinals else 0,
        api_version=body.api_version,
        uid=body.metadata.uid or "",
        workload=_workload(body),
    )


def _workload(body: WorkloadManifest) -> Workload:
    spec = _spec(body)
    template = spec.template
    metadata = template.metadata if template else None
    pod = template.spec if template else None
    desired = body.status.desired_number_scheduled if body.status else None
    return Workload(
        annotations=(metadata.annotations if metadata else None) or {},
        scale=Scale(
            desired=desired or 0, completions=spec.completions, parallelism=spec.parallelism
        ),
        host_network=bool(pod and pod.host_network),
    )


def _spec(body: WorkloadManifest) -> WorkloadSpec:
    """The spec of the application; for a CronJob, the spec of its Jobs."""
    spec = body.spec or WorkloadSpec()
    if spec.job_template is not None:
        spec = spec.job_template.spec or WorkloadSpec()
    return spec


def _namespace(body: RecordBody) -> str:
    """The namespace of a record; "" for Namespaces and Nodes."""
    if body.kind not in NAMESPACED_KINDS:
        return ""
    return body.metadata.namespace or DEFAULT_NAMESPACE


def _selector(spec: SelectorSpec | None) -> LabelSelector | None:
    return None if spec is None else selector_of(spec)


def _texts(items: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(items or ())
