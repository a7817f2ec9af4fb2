"""The batch release after a failed detection: ``DELETE /v1/ipam/ips`` (spec/ipam.md 2.4).

With ``conflict`` the caller says that a stranger uses an address: the addresses are quarantined
first, so that nobody gets them in between, then released. Fixed addresses are never given up this
way. It releases only what the Pod of that UID holds.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from core.domain.claims import ReleaseDecision
from core.domain.commands import QuarantineAddress
from core.domain.events import Cause
from core.domain.model import Endpoint
from core.errors import Refused
from core.service.configurator import Configurator
from core.service.releaser import ReleaseOrder, Releaser
from core.store.codec import ENDPOINT
from core.store.keys import Keys
from core.store.kv import Get, KeyValueStore
from nodeagent.facts import FactsSource, PodReference

REASON: Final = "in use by a stranger, as the plugin on this node has seen"


class Withdrawal(Enum):
    """How a batch release ended."""

    DONE = "done"
    SWITCHED_OFF = "forbid releasing IPs for stateless workload"
    STATEFUL = "forbid releasing IPs for stateful workload"


class Withdrawing:
    """Does batch releases; ``allowed``: SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        releaser: Releaser,
        configurator: Configurator,
        facts: FactsSource,
        actor: str,
        *,
        allowed: bool,
    ) -> None:
        self._store = store
        self._keys = keys
        self._releaser = releaser
        self._configurator = configurator
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
        found = (await self._store.read([Get(self._keys.endpoint(*pod.endpoint_key))])).ranges[0]
        if not found.kvs:
            return Withdrawal.DONE
        endpoint = ENDPOINT.decode(found.kvs[0].value)
        if endpoint.uid != pod.uid:
            raise Refused((f"the endpoint belongs to Pod {endpoint.uid}, not to {pod.uid}",))
        container = reference.container
        cause = Cause(self._actor, container)
        if conflict:
            await self._quarantine(endpoint, container, cause)
        what = "conflict" if conflict else "failed detection"
        order = ReleaseOrder("conflict", f"{what} reported for container {container}", cause)

        def decide(now: Endpoint) -> ReleaseDecision:
            return ReleaseDecision(now.uid == pod.uid, "the plugin gives these addresses back")

        await self._releaser.release(endpoint.key, decide, order)
        return Withdrawal.DONE

    async def _quarantine(self, endpoint: Endpoint, container: str, cause: Cause) -> None:
        """Set all addresses aside: the caller does not say which of them the stranger uses."""
        addresses = [address for address, _ in endpoint.addresses()]
        for address in addresses:
            evidence = f"{self._actor}, container {container}, one of {' '.join(addresses)}"
            await self._configurator.apply(QuarantineAddress(address, REASON, evidence), cause)
