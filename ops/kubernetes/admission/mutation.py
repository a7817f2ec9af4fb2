"""Sets the defaults of pools, subnets and reservations (docs/reference/admission.md).

Values are normalised as in commands, so that the object has the same values as the log.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from core.domain.configuration.commands import ApplyPool, ApplyReservation, ApplySubnet
from core.domain.model import Pool, Reservation, Subnet
from core.domain.subnets.subnet_model import adopt, subnet_for
from core.domain.validation.normalization import (
    normalise_network,
    normalise_reservation,
)
from core.errors import BadInput, Refused
from core.kubernetes.api_client import Object
from ops.kubernetes.inheritance import inherited_fields
from ops.kubernetes.translated_kinds import FINALIZER, command_of


def defaulted(body: Object, pools: Mapping[str, Pool], subnets: Mapping[str, Subnet]) -> Object:
    """A copy of the object with defaults.

    An object with an unreadable field gets no defaults; validation refuses it. ``subnets``: the
    subnets to which a pool can belong.
    """
    after = copy.deepcopy(body)
    if "deletionTimestamp" in after["metadata"]:
        return after
    if body["kind"] != "SpiderReservedIP":
        _add_finalizer(after)
    try:
        command = command_of(_with_uid(body))
    except (BadInput, Refused):
        return after
    match command:
        case ApplyPool(pool):
            adopted = adopt(normalise_network(pool), subnets, pools.get(pool.name))
            _write(after, adopted)
            inherited = inherited_fields(after, adopted, subnet_for(adopted, subnets))
            for part, fields in inherited.items():
                after[part] |= fields
        case ApplySubnet(subnet):
            _write(after, normalise_network(subnet))
        case ApplyReservation(reservation):
            _write(after, normalise_reservation(reservation))
    return after


def _with_uid(body: Object) -> Object:
    """The object, with the UID "" if it has none yet."""
    return body | {"metadata": {"uid": ""} | body["metadata"]}


def _add_finalizer(body: Object) -> None:
    finalizers = body["metadata"].get("finalizers") or []
    if FINALIZER not in finalizers:
        body["metadata"]["finalizers"] = [*finalizers, FINALIZER]


def _write(body: Object, value: Pool | Subnet | Reservation) -> None:
    """Write normalised values; do not add missing lists."""
    spec = body.setdefault("spec", {})
    spec["ipVersion"] = value.family
    if spec.get("ips"):
        spec["ips"] = list(value.ips)
    if isinstance(value, Reservation):
        return
    if spec.get("excludeIPs"):
        spec["excludeIPs"] = list(value.exclude_ips)
    # Keep the label that names a subnet: that subnet may not be in the log yet.
    body["metadata"]["labels"] = (body["metadata"].get("labels") or {}) | dict(value.labels)
