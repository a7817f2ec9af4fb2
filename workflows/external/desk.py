"""For those who claim and release addresses: have them bound and wait, or give them back and go.

Handing over is one transaction: once ``give_back`` returns, the addresses are given back whoever
dies, and until the provider has let go nobody else gets them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from core.domain.events import ReleaseReason
from core.domain.model import Endpoint
from core.errors import DeadlineExceeded, ExecutionFailed, ProviderError
from core.store.codec import CLAIM
from core.store.keys import Keys
from core.store.kv import Get, KeyValueStore
from workflows.engine.client import Client, StartOptions
from workflows.external.binding import GIVE_BACK, ExternalBinding
from workflows.external.values import Bound, GiveBack, Order, addresses_of
from workflows.model.policies import IdConflictPolicy

ATTACH: Final = StartOptions(conflict=IdConflictPolicy.USE_EXISTING)


class ExternalDesk:
    """``parents``: interface -> MAC of the host's NIC, of the NICs that take part."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        client: Client,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._keys = keys
        self._client = client
        self._now_s = now_s

    async def bind(
        self, endpoint: Endpoint, pod: str, parents: Mapping[str, str], wait_s: float
    ) -> tuple[Bound, ...]:
        """Have the addresses of an endpoint bound; none without NICs that take part.

        Called again, it waits for what is under way. Raises ProviderError (not bound, and taken
        back), DeadlineExceeded (it goes on by itself), StoreUnavailable.
        """
        order = await self._order(endpoint, pod, parents, self._now_s() + wait_s)
        if not order.addresses:
            return ()
        handle = await self._client.start(
            ExternalBinding, order, id=order.workflow_id, options=ATTACH
        )
        try:
            async with asyncio.timeout(wait_s):
                result = await handle.result()
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the provider did not bind {endpoint.namespace}/{pod} within {wait_s:g} s",
                subject=order.workflow_id,
                remedy=f"see `orbctl workflow history {order.workflow_id}`",
            ) from error
        except ExecutionFailed as error:
            raise ProviderError(error.message, subject=order.workflow_id) from error
        if not result.bound:
            raise ProviderError(
                f"the addresses of {endpoint.namespace}/{pod} were given back meanwhile",
                subject=order.workflow_id,
            )
        bound: tuple[Bound, ...] = result.bound
        return bound

    async def give_back(
        self,
        endpoint: Endpoint,
        pod: str,
        parents: Mapping[str, str],
        reason: ReleaseReason,
        evidence: str,
    ) -> bool:
        """Hand an endpoint over to be given back; False: no address of it is the provider's.

        Repeating it changes nothing. Raises StoreUnavailable, OutcomeUnknown.
        """
        order = await self._order(endpoint, pod, parents, 0.0)
        if not order.addresses:
            return False
        back = GiveBack(order, reason, evidence)
        await self._client.signal_with_start(
            ExternalBinding, order, id=order.workflow_id, signal=GIVE_BACK, signal_args=[back]
        )
        return True

    async def _order(
        self, endpoint: Endpoint, pod: str, parents: Mapping[str, str], deadline_s: float
    ) -> Order:
        """The claims are those that the endpoint has now."""
        addresses = sorted(address for address, _ in endpoint.addresses())
        gets = [Get(self._keys.ip_of(address)) for address in addresses]
        ranges = (await self._store.read(gets)).ranges if gets else ()
        claims = tuple(
            (address, kv.mod_revision)
            for address, found in zip(addresses, ranges, strict=True)
            for kv in found.kvs
            if CLAIM.decode(kv.value).holder == endpoint.holder
        )
        return Order(
            *endpoint.key,
            pod,
            endpoint.uid,
            endpoint.node,
            addresses_of(endpoint, parents),
            claims,
            round(deadline_s * 1000),
        )
