"""What is filled into pools, subnets and reservations before they are judged.

See docs/reference/admission.md, "SpiderIPPool", "SpiderSubnet" and "SpiderReservedIP".

Never refuses: what cannot be read stays as it was written, and the rules speak about it. The same
normalising and adopting as in the commands, so that the object says what the log will say.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from core.domain.configuration.commands import ApplyPool, ApplyReservation, ApplySubnet
from core.domain.model import Pool, Reservation, Subnet
from core.domain.subnets.subnet_model import adopt, subnet_for
from core.domain.validation.normalization import (
    normalise_pool,
    normalise_reservation,
    normalise_subnet,
)
from core.errors import BadInput, Refused
from core.kubernetes.api import Object
from ops.kubernetes.inheritance import handed_down
from ops.kubernetes.resources import FINALIZER, command_of


def filled_in(one: Object, pools: Mapping[str, Pool], subnets: Mapping[str, Subnet]) -> Object:
    """A copy of the object with everything that it leaves open.

    ``pools``: as in the log. ``subnets``: those that pools may belong to.
    """
    after = copy.deepcopy(one)
    if "deletionTimestamp" in after["metadata"]:
        return after
    if one["kind"] != "SpiderReservedIP":
        _give_finalizer(after)
    try:
        command = command_of(_with_uid(one))
    except (BadInput, Refused):
        return after
    match command:
        case ApplyPool(pool):
            whole = adopt(normalise_pool(pool), subnets, pools.get(pool.name))
            _write(after, whole)
            lacking = handed_down(after, whole, subnet_for(whole, subnets))
            for part, fields in lacking.items():
                after[part] |= fields
        case ApplySubnet(subnet):
            _write(after, normalise_subnet(subnet))
        case ApplyReservation(reservation):
            _write(after, normalise_reservation(reservation))
    return after


def _with_uid(one: Object) -> Object:
    """An object that is being created has no UID yet when it comes here."""
    return one | {"metadata": {"uid": ""} | one["metadata"]}


def _give_finalizer(one: Object) -> None:
    finalizers = one["metadata"].get("finalizers") or []
    if FINALIZER not in finalizers:
        one["metadata"]["finalizers"] = [*finalizers, FINALIZER]


def _write(one: Object, value: Pool | Subnet | Reservation) -> None:
    """Family, labels and merged lists; a field that nobody gave stays away."""
    spec = one.setdefault("spec", {})
    spec["ipVersion"] = value.family
    if spec.get("ips"):
        spec["ips"] = list(value.ips)
    if isinstance(value, Reservation):
        return
    if spec.get("excludeIPs"):
        spec["excludeIPs"] = list(value.exclude_ips)
    # A label that names a subnet stays: the subnet may not be in the log yet.
    one["metadata"]["labels"] = (one["metadata"].get("labels") or {}) | dict(value.labels)
