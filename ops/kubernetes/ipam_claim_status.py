"""Writes the addresses of each IPAMClaim, and the Pod of its last ADD, into its status.

The Network Plumbing Working Group defines IPAMClaims (``k8s.cni.cncf.io/v1alpha1``); their CRD may
be missing. Only IPAMClaims that an ADD has named are written, because another IPAM may serve the
rest. The condition and its reasons are those of OVN-Kubernetes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from core.domain.events import AllocationRefused
from core.domain.evolution import EndpointKey
from core.domain.fixed.fixed_address_owners import (
    IPAM_CLAIM_SUFFIX,
    endpoint_of_ipam_claim,
    ipam_claim_of_endpoint,
)
from core.domain.model import Endpoint, stateful_holder
from core.errors import ApiError, ApiNotFound, ApiRejected
from core.kubernetes.api_client import Api, Object, segment
from core.kubernetes.informer import ObjectKey
from core.process.concurrency import until_first
from core.projections.change_buffer import ChangeBuffer
from core.projections.projector import Projector
from ops.kubernetes.conditions import DesiredCondition, camel, conditions, is_new
from ops.kubernetes.custom_resource_writer import Clock, utc_now
from ops.kubernetes.pool_status_writer import STATUS_MANAGER
from ops.kubernetes.translated_kinds import is_being_deleted, resource_version
from ops.kubernetes.watches.collection import Collection
from ops.kubernetes.watches.owners import IPAM_CLAIMS

ROUND_S: Final = 0.5
"""The pause between two rounds: at most two writes a second to one claim."""

ALLOCATED: Final = DesiredCondition(
    "IPsAllocated", "True", "SuccessfulAllocation", "the addresses belong to this claim"
)

RELEASED: Final = DesiredCondition(
    ALLOCATED.type,
    "False",
    "Released",
    "the addresses were released; the next ADD allocates addresses again",
)

REASONS: Final[Mapping[str, str]] = {
    "used-out": "SubnetExhausted",
    "conflict": "IPAddressConflict",
}
"""Reason of a refused ADD -> reason of the condition. Other reasons are put in CamelCase."""

_log: Final = logging.getLogger(__name__)


class ClaimStatus(NamedTuple):
    """The desired status of an IPAMClaim."""

    members: Object
    condition: DesiredCondition


class ClaimReporter:
    """The writer of the statuses; ``writes`` counts patches."""

    def __init__(
        self, api: Api, projector: Projector, *, now: Clock = utc_now, round_s: float = ROUND_S
    ) -> None:
        self.claims = Collection(api, "IPAMClaim", IPAM_CLAIMS, _cached_part, optional=True)
        self.writes = 0
        self._api = api
        self._projector = projector
        self._now = now
        self._round_s = round_s
        self._pending: set[ObjectKey] = set()
        self._refusals: dict[ObjectKey, AllocationRefused] = {}
        """The last refused ADD of each claim without addresses."""

        self._pending_added = asyncio.Event()
        self.claims.seen.listen(self._note)

    async def run(self) -> None:
        """Report until cancelled."""
        await until_first(self.claims.run(), self._report())

    async def _report(self) -> None:
        await self._projector.wait_for(lambda: self._projector.ready)
        await self.claims.seen.listed.wait()
        with self._projector.follow() as changes:
            self._pending |= self.claims.seen.objects.keys()
            while True:
                for key in self._take_keys(changes):
                    await self._write(key)
                await asyncio.sleep(self._round_s)
                await self._until_changed(changes)

    def _note(self, keys: Iterable[ObjectKey]) -> None:
        self._pending.update(keys)
        self._pending_added.set()

    def _take_keys(self, changes: ChangeBuffer) -> set[ObjectKey]:
        taken = changes.take()
        for (namespace, name), refusal in taken.refusals.items():
            self._refusals[namespace, ipam_claim_of_endpoint(name)] = refusal
        keys = self._pending | set(_claims_of((*taken.endpoints, *taken.refusals)))
        self._pending = set()
        return keys

    async def _until_changed(self, changes: ChangeBuffer) -> None:
        self._pending_added.clear()
        if not self._pending:
            await until_first(
                self._projector.wait_for(lambda: bool(changes.endpoints or changes.refusals)),
                self._pending_added.wait(),
            )

    async def _write(self, key: ObjectKey) -> None:
        stored = self.claims.seen.objects.get(key)
        desired = self._desired(key, stored)
        if stored is None or desired is None or is_being_deleted(stored) or _has(stored, desired):
            return
        other_conditions = [
            condition
            for condition in _status(stored).get("conditions") or ()
            if condition["type"] != ALLOCATED.type
        ]
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        status = desired.members | {
            "conditions": [*other_conditions, *conditions(stored, [desired.condition], now)]
        }
        namespace, name = map(segment, key)
        group, _, plural = IPAM_CLAIMS.rpartition("/")
        path = f"{group}/namespaces/{namespace}/{plural}/{name}/status"
        try:
            await self._api.merge(
                path, {"metadata": resource_version(stored), "status": status}, STATUS_MANAGER
            )
        except (ApiNotFound, ApiRejected) as error:  # no retry before the next change
            _log.warning("cannot write the status of IPAMClaim %s: %s", "/".join(key), error)
        except ApiError as error:
            _log.warning("will write the status of IPAMClaim %s later: %s", "/".join(key), error)
            self._note([key])
        else:
            self.writes += 1

    def _desired(self, key: ObjectKey, stored: Object | None) -> ClaimStatus | None:
        """The status from the addresses or the last refusal; None if no ADD named the claim.

        A stored ALLOCATED without an endpoint becomes RELEASED: an operator released the addresses.
        """
        endpoint = self._endpoint(key)
        if endpoint is not None or stored is None:
            self._refusals.pop(key, None)
        if endpoint is not None:
            return _of_endpoint(endpoint)
        refusal = self._refusals.get(key)
        if refusal is not None:
            return _of_refusal(refusal)
        if stored is not None and not is_new(stored, ALLOCATED):
            return ClaimStatus({"ips": []}, RELEASED)
        return None

    def _endpoint(self, key: ObjectKey) -> Endpoint | None:
        """The endpoint of a claim; None if the endpoint of this name has another holder."""
        namespace, name = key[0], endpoint_of_ipam_claim(key[1])
        endpoint = self._projector.projection.ledger.endpoints.get((namespace, name))
        holder = stateful_holder("ipamclaim", namespace, name)
        return endpoint if endpoint is not None and endpoint.holder == holder else None


def _cached_part(claim: Object) -> Object:
    metadata = {
        name: claim["metadata"][name]
        for name in ("namespace", "name", "resourceVersion", "generation", "deletionTimestamp")
        if name in claim["metadata"]
    }
    return {"metadata": metadata, "status": claim.get("status") or {}}


def _claims_of(keys: Iterable[EndpointKey]) -> Iterable[ObjectKey]:
    for namespace, name in keys:
        if name.endswith(IPAM_CLAIM_SUFFIX):
            yield namespace, ipam_claim_of_endpoint(name)


def _of_endpoint(endpoint: Endpoint) -> ClaimStatus:
    ips = [cidr for nic in endpoint.nics for cidr in nic.cidrs()]
    return ClaimStatus({"ips": ips, "ownerPod": {"name": endpoint.owner_name}}, ALLOCATED)


def _of_refusal(refusal: AllocationRefused) -> ClaimStatus:
    reason = REASONS.get(refusal.reason) or camel(refusal.reason)
    owner = {"ownerPod": {"name": refusal.pod}} if refusal.pod else {}
    condition = DesiredCondition(ALLOCATED.type, "False", reason, refusal.message)
    return ClaimStatus({"ips": [], **owner}, condition)


def _has(stored: Object, desired: ClaimStatus) -> bool:
    status = _status(stored)
    has_members = {name: status.get(name) for name in desired.members} == desired.members
    return has_members and not is_new(stored, desired.condition)


def _status(stored: Object) -> Object:
    status: Object = stored["status"]
    return status
