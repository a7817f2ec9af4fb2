"""Computes the fields that the custom resource of a pool inherits from a subnet. Pure.

A field that a user has written is never replaced. See docs/reference/admission.md, "SpiderIPPool",
step 4 of the mutation.
"""

from __future__ import annotations

from typing import Final

from core.domain.autopools.pool_names import OWNER_SUBNET
from core.domain.model import Pool, Subnet
from core.domain.subnets.subnet_model import owner_subnet_name
from core.kubernetes.api_client import Object
from core.manifests.kinds.fields import API_VERSION
from ops.kubernetes.translated_kinds import custom_resource_uid

CONTROLLER: Final = "controller"


def inherited_fields(body: Object, pool: Pool, subnet: Subnet | None) -> Object:
    """The missing inherited fields as a merge patch; {} if none is missing.

    ``pool``: the pool in the log, which has inherited already. An empty list of routes is kept.
    """
    if subnet is None or owner_subnet_name(pool) != subnet.name:
        return {}
    spec: Object = {}
    user_spec = body.get("spec") or {}
    if pool.gateway and user_spec.get("gateway") is None:
        spec["gateway"] = pool.gateway
    if pool.routes and user_spec.get("routes") is None:
        spec["routes"] = [{"dst": route.dst, "gw": route.gw} for route in pool.routes]
    missing = {"metadata": _owner_fields(body["metadata"], subnet), "spec": spec}
    return {part: fields for part, fields in missing.items() if fields}


def _owner_fields(metadata: Object, subnet: Subnet) -> Object:
    """The label of the subnet; an ownerReference only if the pool has no controller."""
    missing: Object = {}
    if (metadata.get("labels") or {}).get(OWNER_SUBNET) != subnet.name:
        missing["labels"] = {OWNER_SUBNET: subnet.name}
    owners = metadata.get("ownerReferences") or []
    uid = custom_resource_uid(subnet)
    if uid and not any(owner.get(CONTROLLER) for owner in owners):
        reference = {
            "apiVersion": API_VERSION,
            "kind": "SpiderSubnet",
            "name": subnet.name,
            "uid": uid,
            CONTROLLER: True,
            "blockOwnerDeletion": True,
        }
        missing["ownerReferences"] = [*owners, reference]
    return missing
