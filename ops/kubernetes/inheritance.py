"""What a custom resource of a pool has of its subnet. Pure.

See docs/reference/admission.md, "SpiderIPPool", step 4 of the mutation.

The log's pool has inherited already, whichever came first; this is how its object comes to say so.
Must never replace what somebody has written.
"""

from __future__ import annotations

from typing import Final

from core.domain.autopools.names import OWNER_SUBNET
from core.domain.model import Pool, Subnet
from core.domain.subnets.subnet_model import owner_of
from core.kubernetes.api import Object
from core.manifests.kinds.fields import API_VERSION
from ops.kubernetes.resources import source_of

CONTROLLER: Final = "controller"


def inherited_fields(one: Object, pool: Pool, subnet: Subnet | None) -> Object:
    """What the object lacks of its subnet, as a merge patch; {} for nothing.

    ``pool`` as the log has it. An empty list of routes is one that somebody has written.
    """
    if subnet is None or owner_of(pool) != subnet.name:
        return {}
    spec: Object = {}
    said = one.get("spec") or {}
    if pool.gateway and said.get("gateway") is None:
        spec["gateway"] = pool.gateway
    if pool.routes and said.get("routes") is None:
        spec["routes"] = [{"dst": route.dst, "gw": route.gw} for route in pool.routes]
    lacking = {"metadata": _marks(one["metadata"], subnet), "spec": spec}
    return {part: fields for part, fields in lacking.items() if fields}


def _marks(metadata: Object, subnet: Subnet) -> Object:
    """The label, and the subnet as controller unless there is another one."""
    found: Object = {}
    if (metadata.get("labels") or {}).get(OWNER_SUBNET) != subnet.name:
        found["labels"] = {OWNER_SUBNET: subnet.name}
    owners = metadata.get("ownerReferences") or []
    uid = source_of(subnet)
    if uid and not any(owner.get(CONTROLLER) for owner in owners):
        reference = {"apiVersion": API_VERSION, "kind": "SpiderSubnet", "name": subnet.name}
        marks = {"uid": uid, CONTROLLER: True, "blockOwnerDeletion": True}
        found["ownerReferences"] = [*owners, reference | marks]
    return found
