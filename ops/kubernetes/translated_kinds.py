"""The custom resources that the translator applies: their paths and commands."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from core.domain.autopools.pool_names import OWNER_SUBNET
from core.domain.configuration.commands import ApplyPool, ApplyReservation, ApplySubnet, Command
from core.domain.evolution import Ledger
from core.domain.model import Owner, Pool, Reservation, Subnet
from core.domain.subnets.subnet_model import owner_subnet_name
from core.kubernetes.api_client import Object, segment
from core.kubernetes.workloads.pods import controller_of
from core.manifests.commands import apply_command
from core.manifests.kinds.fields import API_VERSION
from core.manifests.manifest_parser import read_object

UID_ANNOTATION: Final = "orbweaver.io/kubernetes-uid"
"""An annotation of values in the log: the UID of their custom resource.

Only values with it are retired when their custom resource is deleted; ``orbctl apply`` sets none.
"""

FINALIZER: Final = "spiderpool.spidernet.io"

_SUBNET: Final = (API_VERSION, "SpiderSubnet")
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class TranslatedKind(StrEnum):
    """A kind of translated custom resource; the value is its plural name."""

    SUBNET = "spidersubnets"
    POOL = "spiderippools"
    RESERVATION = "spiderreservedips"

    @property
    def title(self) -> str:  # type: ignore[override]  # replaces str.title(), which is not used
        """The kind in manifests."""
        return _TITLES[self]

    @property
    def collection(self) -> str:
        """The path of all objects."""
        return f"/apis/{API_VERSION}/{self.value}"

    def path(self, name: str) -> str:
        """The path of one object."""
        return f"{self.collection}/{segment(name)}"


_TITLES: Final = {
    TranslatedKind.SUBNET: "SpiderSubnet",
    TranslatedKind.POOL: "SpiderIPPool",
    TranslatedKind.RESERVATION: "SpiderReservedIP",
}

Value = Pool | Subnet | Reservation


def value_in_log(ledger: Ledger, kind: TranslatedKind, name: str) -> Value | None:
    """The value with this name in the log."""
    return values_in_log(ledger, kind).get(name)


def values_in_log(ledger: Ledger, kind: TranslatedKind) -> Mapping[str, Value]:
    """All values of a kind in the log."""
    match kind:
        case TranslatedKind.POOL:
            return ledger.pools
        case TranslatedKind.SUBNET:
            return ledger.subnets
        case TranslatedKind.RESERVATION:
            return ledger.reservations


def custom_resource_uid(value: Value) -> str:
    """The UID of the value's custom resource, "" for none."""
    return value.annotations.get(UID_ANNOTATION, "")


def command_of(stored: Object) -> Command:
    """The command that applies a custom resource. Raises BadInput, Refused."""
    command = apply_command(read_object(stored))
    uid = stored["metadata"]["uid"]
    match command:
        case ApplyPool(pool):
            labels = _labels(pool, controller_of(stored))
            return ApplyPool(pool._replace(labels=labels, annotations=_annotations(pool, uid)))
        case ApplySubnet(subnet):
            return ApplySubnet(subnet._replace(annotations=_annotations(subnet, uid)))
        case ApplyReservation(reservation):
            return ApplyReservation(
                reservation._replace(annotations=_annotations(reservation, uid))
            )
        case _:
            raise AssertionError(f"a kind that is not translated: {stored['kind']}")


def controlling_subnet(stored: Object) -> Owner | None:
    """The SpiderSubnet that controls an object, by its ownerReference."""
    owner = controller_of(stored)
    is_subnet = owner is not None and (owner.api_version, owner.kind) == _SUBNET
    return owner if is_subnet else None


def _labels(pool: Pool, controller: Owner | None) -> dict[str, str]:
    """The pool's labels, without the label of a subnet that does not control the pool."""
    name = owner_subnet_name(pool)
    if not name or (controller is not None and controller.name == name):
        return pool.labels
    return {key: text for key, text in pool.labels.items() if key != OWNER_SUBNET}


def _annotations(value: Value, uid: str) -> dict[str, str]:
    annotations = {key: text for key, text in value.annotations.items() if key != _LAST_APPLIED}
    return annotations | {UID_ANNOTATION: uid}


def is_being_deleted(stored: Object) -> bool:
    """Whether the object is being deleted."""
    return "deletionTimestamp" in stored["metadata"]


def resource_version(stored: Object) -> Object:
    """The metadata that makes the API server refuse a write if the object was changed."""
    return {"resourceVersion": stored["metadata"]["resourceVersion"]}
