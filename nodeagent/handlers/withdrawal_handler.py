"""Giving addresses back after a failed detection.

See docs/reference/address-assignment.md, "Batch release".

``withdraw`` is ``DELETE /v1/ipam/ips`` for callers that look for themselves, ``give_up`` is for the
agent's own detection, which knows more. Where a stranger uses an address it is quarantined first,
so that nobody gets it in between, then released. Fixed addresses are never given up this way. Only
what the Pod of that UID holds is released.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from core.allocation.add_request import AddRequest
from core.allocation.releaser import Releaser, ReleaseRequest
from core.configuration.configurator import Configurator
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.configuration.commands import QuarantineAddress
from core.domain.events import Cause
from core.domain.facts import PodFacts, PodReference
from core.domain.model import Attachment, ConflictingHost, Endpoint, Nic
from core.errors import Refused
from core.eventstore.codec import ENDPOINT
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.writer import unix_ms
from core.projections.configuration_view import ConfigurationView
from nodeagent.conflict_detection.detector import ConflictingAddress
from nodeagent.facts import FactsSource

REASON: Final = "in use by a stranger, as the plugin on this node has seen"
STRANGER: Final = "in use by a stranger, who answered before the address was on a link"

ADDRESSES_OF_A_STRANGER_MAX: Final = 16
"""In quarantine because of one hardware address, in the whole cluster. A proxy that answers for
every address would otherwise take a pool away, address by address."""


class Withdrawal(Enum):
    """How a batch release ended."""

    DONE = "done"
    SWITCHED_OFF = "forbid releasing IPs for stateless workload"
    STATEFUL = "forbid releasing IPs for stateful workload"
    TOO_MANY = (
        f"{ADDRESSES_OF_A_STRANGER_MAX} addresses are in quarantine because of it already, and no"
        " more will be: is it a proxy that answers for all of them?"
    )


class WithdrawalHandler:
    """Does batch releases; ``allowed``: SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS."""

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

    async def withdraw(self, reference: PodReference, *, conflict: bool) -> Withdrawal:
        """Raises Refused when the endpoint is of another Pod, StoreError."""
        pod = self._facts.facts(reference).pod
        if conflict and not self._allowed:
            return Withdrawal.SWITCHED_OFF
        if pod.fixed:
            return Withdrawal.STATEFUL if conflict else Withdrawal.DONE
        endpoint = await self._endpoint(pod)
        if endpoint is None:
            return Withdrawal.DONE
        if self._facts.wanted(endpoint) is not None:  # fixed, though its Pod is not known any more
            return Withdrawal.STATEFUL if conflict else Withdrawal.DONE
        if endpoint.uid != pod.uid:
            if not (pod.known or reference.uid):
                return Withdrawal.DONE  # of no UID, and no Pod to learn it from
            raise Refused((f"the endpoint belongs to Pod {endpoint.uid}, not to {pod.uid}",))
        container = reference.container
        cause = Cause(self._actor, container)
        if conflict:
            await self._quarantine(endpoint, container, cause)
        what = "conflict" if conflict else "failed detection"
        order = ReleaseRequest("conflict", f"{what} reported for container {container}", cause)

        def decide(now: Endpoint) -> ReleaseDecision:
            return ReleaseDecision(now.uid == pod.uid, "the plugin gives these addresses back")

        await self._releaser.release(endpoint.key, decide, order)
        return Withdrawal.DONE

    async def give_up(
        self, request: AddRequest, conflicts: Sequence[ConflictingAddress], why: str
    ) -> Withdrawal:
        """After the agent's own detection: give back what the ADD has got for this interface.

        Addresses that strangers use are quarantined, with who uses them, and no others. The Pod's
        other interfaces, which may be on links already, keep theirs. Raises StoreError.
        """
        pod = self._facts.facts(request.pod).pod
        if conflicts and not self._allowed:
            return Withdrawal.SWITCHED_OFF
        endpoint = await self._endpoint(pod)
        # By the holder too: a Pod that was deleted meanwhile is not known to be fixed any more.
        if pod.fixed or (endpoint is not None and self._facts.wanted(endpoint) is not None):
            return Withdrawal.STATEFUL
        attachment, cause = request.attachment, request.cause
        seen = f"container {attachment.container}"
        too_many = any(self._has_many(mac) for _, mac in conflicts)
        for address, mac in () if too_many else conflicts:
            stranger = ConflictingHost(mac, self._actor, pod.node, attachment.interface, unix_ms())
            aside = QuarantineAddress(address, STRANGER, seen, stranger)
            await self._configurator.apply(aside, cause)

        def decide(now: Endpoint) -> ReleaseDecision:
            nic = now.find(attachment.interface)
            ours = nic is not None and nic.container == attachment.container
            return ReleaseDecision(ours and now.uid == pod.uid, why, _others(now, attachment))

        release = ReleaseRequest("conflict", why, cause)
        await self._releaser.release(pod.endpoint_key, decide, release)
        return Withdrawal.TOO_MANY if too_many else Withdrawal.DONE

    async def _endpoint(self, pod: PodFacts) -> Endpoint | None:
        found = (await self._store.read([Get(self._keys.endpoint(*pod.endpoint_key))])).ranges[0]
        return ENDPOINT.decode(found.kvs[0].value) if found.kvs else None

    def _has_many(self, mac: str) -> bool:
        conflicts = (one.stranger for one in self._view.current.quarantine.values())
        theirs = sum(one is not None and one.mac == mac for one in conflicts)
        return theirs >= ADDRESSES_OF_A_STRANGER_MAX

    async def _quarantine(self, endpoint: Endpoint, container: str, cause: Cause) -> None:
        """Set all addresses aside: the caller does not say which of them the stranger uses."""
        addresses = [address for address, _ in endpoint.addresses()]
        for address in addresses:
            evidence = f"container {container}, one of {' '.join(addresses)}"
            stranger = ConflictingHost("", self._actor, endpoint.node, "", unix_ms())
            aside = QuarantineAddress(address, REASON, evidence, stranger)
            await self._configurator.apply(aside, cause)


def _others(endpoint: Endpoint, attachment: Attachment) -> tuple[Nic, ...]:
    """The NICs that stay: those before this one, and those behind it that have a name.

    What is behind and open belongs to later items of an unnamed list
    (docs/reference/pool-selection.md, "Several NICs"). Those are counted from the front, so that a
    hole in the middle would shift them.
    """
    names = [nic.interface for nic in endpoint.nics]
    place = names.index(attachment.interface) if attachment.interface in names else len(names)
    behind = (nic for nic in endpoint.nics[place + 1 :] if nic.interface)
    return (*endpoint.nics[:place], *behind)
