"""Releases addresses after a failed conflict detection, except fixed addresses.

``withdraw_endpoint`` is for callers that probe without the agent
(docs/reference/address-assignment.md, "Batch release"), ``withdraw_nic`` for the agent's own probe.
An address with a conflict is quarantined before its release. Addresses of a Pod with another UID
are not released.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum
from typing import Final

from core.allocation.add_request import AddRequest
from core.allocation.releaser import Releaser, ReleaseRequest
from core.configuration.configurator import Configurator
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.configuration.commands import QuarantineAddress
from core.domain.events import Cause
from core.domain.fixed.ipam_claims import pod_of_nic
from core.domain.model import Attachment, ConflictingHost, Endpoint, Nic
from core.domain.request_facts import PodFacts, PodReference
from core.errors import Refusal, Refused
from core.eventstore.codec import ENDPOINT_CODEC
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.writer import unix_ms
from core.projections.configuration_view import ConfigurationView
from nodeagent.conflict_detection.detector import ConflictingAddress
from nodeagent.pod_facts import FactsSource

REPORTED_REASON: Final = "in use by a conflicting host, as the CNI plugin on this node reported"
PROBED_REASON: Final = (
    "in use by a conflicting host, which answered a probe before the Pod had the address"
)

ADDRESSES_OF_A_HOST_MAX: Final = 16
"""Quarantined addresses for one MAC address, in the whole cluster. Without this limit, a proxy that
answers for every address could put a whole pool in quarantine."""


class Withdrawal(Enum):
    """How a withdrawal ended.

    Every value except DONE says why addresses were kept or were not quarantined.
    The texts with "forbid" are Spiderpool's.
    """

    DONE = "done"
    SWITCHED_OFF = "forbid releasing IPs for stateless workload"
    STATEFUL = "forbid releasing IPs for stateful workload"
    TOO_MANY = (
        f"{ADDRESSES_OF_A_HOST_MAX} addresses are in quarantine because of this MAC address,"
        " which is the limit for one host; the host may be a proxy that answers for every address"
    )


class WithdrawalHandler:
    """Handles withdrawals.

    ``allowed``: whether a conflict may release addresses (SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS).
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        releaser: Releaser,
        configurator: Configurator,
        view: ConfigurationView,
        facts: FactsSource,
        actor: str,
        *,
        allowed: bool,
    ) -> None:
        self._store = store
        self._keys = keys
        self._releaser = releaser
        self._configurator = configurator
        self._view = view
        self._facts = facts
        self._actor = actor
        self._allowed = allowed

    async def withdraw_endpoint(self, reference: PodReference, *, conflict: bool) -> Withdrawal:
        """Release a Pod's addresses. With ``conflict``, quarantine all of them first.

        Raises StoreError, and Refused if the endpoint belongs to another Pod.
        """
        pod = self._facts.facts(reference).pod
        if conflict and not self._allowed:
            return Withdrawal.SWITCHED_OFF
        if pod.fixed:
            return Withdrawal.STATEFUL if conflict else Withdrawal.DONE
        endpoint = await self._endpoint(pod)
        if endpoint is None:
            return Withdrawal.DONE
        if self._is_fixed(endpoint):  # pod.fixed is not set if the Pod is unknown
            return Withdrawal.STATEFUL if conflict else Withdrawal.DONE
        if endpoint.uid != pod.uid:
            if not (pod.known or reference.uid):
                # Without a UID, the endpoint may belong to any Pod of this name.
                return Withdrawal.DONE
            raise Refused((_other_pod(endpoint, pod),))
        container = reference.container
        cause = Cause(self._actor, container)
        if conflict:
            await self._quarantine(endpoint, container, cause)
        what = "conflict" if conflict else "failed detection"
        release = ReleaseRequest("conflict", f"{what} reported for container {container}", cause)

        def decide(current: Endpoint) -> ReleaseDecision:
            why = "the CNI plugin released the Pod's addresses"
            return ReleaseDecision(ends=current.uid == pod.uid, why=why)

        await self._releaser.release(endpoint.key, decide, release)
        return Withdrawal.DONE

    async def has_any(self, request: AddRequest, addresses: Collection[str]) -> bool:
        """Whether the Pod's endpoint has one of these addresses for the interface of an ADD.

        Raises StoreError.
        """
        interface = request.attachment.interface
        endpoint = await self._endpoint(pod_of_nic(self._facts.facts(request.pod).pod, interface))
        nic = None if endpoint is None else endpoint.find(interface)
        return nic is not None and any(address in addresses for address, _ in nic.addresses())

    async def withdraw_nic(
        self, request: AddRequest, conflicts: Sequence[ConflictingAddress], why: str
    ) -> Withdrawal:
        """Release the addresses that an ADD allocated for its interface.

        Addresses in ``conflicts`` are quarantined first. The Pod's other interfaces keep their
        addresses. Raises StoreError.
        """
        pod = pod_of_nic(self._facts.facts(request.pod).pod, request.attachment.interface)
        if conflicts and not self._allowed:
            return Withdrawal.SWITCHED_OFF
        endpoint = await self._endpoint(pod)
        # After the Pod was deleted, only the endpoint shows that the addresses are fixed.
        if pod.fixed or (endpoint is not None and self._is_fixed(endpoint)):
            return Withdrawal.STATEFUL
        attachment, cause = request.attachment, request.cause
        evidence = f"container {attachment.container}"
        too_many = any(self._is_at_limit(mac) for _, mac in conflicts)
        for address, mac in () if too_many else conflicts:
            host = ConflictingHost(
                mac=mac,
                seen_by=self._actor,
                node=pod.node,
                interface=attachment.interface,
                seen_ms=unix_ms(),
            )
            command = QuarantineAddress(address, PROBED_REASON, evidence, host)
            await self._configurator.apply(command, cause)

        def decide(current: Endpoint) -> ReleaseDecision:
            nic = current.find(attachment.interface)
            is_ours = nic is not None and nic.container == attachment.container
            keep = _other_nics(current, attachment)
            return ReleaseDecision(ends=is_ours and current.uid == pod.uid, why=why, keep=keep)

        release = ReleaseRequest("conflict", why, cause)
        await self._releaser.release(pod.endpoint_key, decide, release)
        return Withdrawal.TOO_MANY if too_many else Withdrawal.DONE

    def _is_fixed(self, endpoint: Endpoint) -> bool:
        # Only endpoints with fixed addresses have a validity.
        return self._facts.endpoint_validity(endpoint) is not None

    async def _endpoint(self, pod: PodFacts) -> Endpoint | None:
        result = (await self._store.read([Get(self._keys.endpoint(*pod.endpoint_key))])).ranges[0]
        return ENDPOINT_CODEC.decode(result.kvs[0].value) if result.kvs else None

    def _is_at_limit(self, mac: str) -> bool:
        hosts = (entry.conflicting_host for entry in self._view.current.quarantine.values())
        count = sum(host is not None and host.mac == mac for host in hosts)
        return count >= ADDRESSES_OF_A_HOST_MAX

    async def _quarantine(self, endpoint: Endpoint, container: str, cause: Cause) -> None:
        """Callers do not say which address has the conflict, so all are quarantined."""
        addresses = [address for address, _ in endpoint.addresses()]
        for address in addresses:
            evidence = f"container {container}, one of {' '.join(addresses)}"
            host = ConflictingHost(seen_by=self._actor, node=endpoint.node, seen_ms=unix_ms())
            command = QuarantineAddress(address, REPORTED_REASON, evidence, host)
            await self._configurator.apply(command, cause)


def _other_nics(endpoint: Endpoint, attachment: Attachment) -> tuple[Nic, ...]:
    """The NICs to keep: NICs before the attachment's NIC, and named NICs after it.

    The position of an unnamed NIC selects its entry in the Pod's annotation
    (docs/reference/pool-selection.md, "Several NICs"). Later NICs without a name are not kept,
    because they would move to other entries.
    """
    names = [nic.interface for nic in endpoint.nics]
    index = names.index(attachment.interface) if attachment.interface in names else len(names)
    named_after = (nic for nic in endpoint.nics[index + 1 :] if nic.interface)
    return (*endpoint.nics[:index], *named_after)


def _other_pod(endpoint: Endpoint, pod: PodFacts) -> Refusal:
    subject = f"SpiderEndpoint/{endpoint.namespace}/{endpoint.name}"
    message = f"the endpoint belongs to Pod {endpoint.uid}, not to {pod.uid}"
    return Refusal(
        kind="Forbidden",
        rule="other-pod",
        subject=subject,
        field="",
        message=message,
        remedy="request the release with the UID of the Pod that has the addresses",
    )
