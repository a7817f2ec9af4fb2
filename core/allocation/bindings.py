"""Bindings: what agents and controllers tell each other about addresses that a provider binds.

One key for an endpoint, there from the moment the provider may know of it until it knows no more:

    asked      an ADD waits for it, or did                     written by the agent
    bound      the provider has said yes, the books have it    by the workflow
    failed     it did not; what was done is being taken back   by the workflow
    returning  it shall be given back, whoever wanted that     by whoever releases

Every write names the revision that it has seen. Nothing here asks a provider or ends a claim.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, Literal, NamedTuple

from core.allocation.endpoint_writer import ClaimRevisions
from core.domain.addresses.ip_address import parse_address
from core.domain.events import ReleaseReason
from core.domain.evolution import EndpointKey
from core.domain.provider.provider_nics import ProviderAddress
from core.eventstore.codec import StateCodec
from core.eventstore.keys import Keys
from core.eventstore.kinds import KeyKind
from core.eventstore.kv import (
    Absent,
    Delete,
    Get,
    Guard,
    KeyValue,
    KeyValueStore,
    Put,
    Unchanged,
)

State = Literal["asked", "bound", "failed", "returning"]

WHY_CHARS_MAX: Final = 1_000


class BindingRequest(NamedTuple):
    """One endpoint: ``addresses`` are bound outside, ``claims`` end together with them.

    ``deadline_ms``: how long the caller waits for a bind (Unix).
    """

    namespace: str
    endpoint: str
    pod: str
    uid: str
    node: str
    addresses: tuple[ProviderAddress, ...]
    claims: ClaimRevisions
    deadline_ms: int = 0

    @property
    def key(self) -> EndpointKey:
        """(namespace, name) of the endpoint."""
        return self.namespace, self.endpoint

    @property
    def workflow_id(self) -> str:
        """One execution at a time for one Pod: binding and giving back never overlap."""
        return f"external/{self.namespace}/{self.endpoint}/{self.uid}"

    def covers(self, other: BindingRequest) -> bool:
        """Whether what binds this one binds the other."""
        return self.uid == other.uid and (
            set(self.addresses) >= set(other.addresses) and set(self.claims) >= set(other.claims)
        )


class Binding(NamedTuple):
    """``why``: of a failure in words, or what proves that the addresses shall be given back.

    ``gone``: sandboxes that have ended while another one had NICs of the endpoint.
    """

    order: BindingRequest
    state: State
    why: str = ""
    reason: ReleaseReason = "unbound"
    gone: tuple[str, ...] = ()

    @property
    def is_ending(self) -> bool:
        """Whether it is on its way to be no more."""
        return self.state in ("failed", "returning")


class StoredBinding(NamedTuple):
    """A binding and the revision of its key; None and 0: there is none."""

    binding: Binding | None = None
    revision: int = 0

    @classmethod
    def of(cls, found: KeyValue | None) -> StoredBinding:
        """What a binding's key says. Raises LogCorrupt."""
        return cls() if found is None else cls(BINDING.decode(found.value), found.mod_revision)


def _check_binding(binding: Binding) -> None:
    for address, _ in binding.order.claims:
        parse_address(address)


BINDING: Final = StateCodec(Binding, _check_binding)
BINDINGS: Final[KeyKind[Binding]] = KeyKind(
    *("binding", "binding", BINDING.decode, ("agent", "controller", "worker", "orbctl")),
    "see at the network provider what it has bound of this endpoint, give that back, then delete"
    " the key: the Pod's next ADD writes another",
    key_of=lambda keys, binding: keys.binding(*binding.order.key),
)


class Bindings:
    """Reads and writes them. Everything raises StoreUnavailable, a write OutcomeUnknown too."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def find(self, key: EndpointKey) -> StoredBinding:
        """As it is now."""
        return StoredBinding.of(
            (await self._store.read([Get(self._keys.binding(*key))])).ranges[0].first
        )

    async def write(self, seen: StoredBinding, binding: Binding, *guards: Guard) -> int:
        """Replace what was seen; the revision of that, 0: it has changed meanwhile."""
        name = self._keys.binding(*binding.order.key)
        fence = Unchanged(name, seen.revision) if seen.revision else Absent(name)
        value = BINDING.encode(binding._replace(why=binding.why[:WHY_CHARS_MAX]))
        done = await self._store.commit([fence, *guards], [Put(name, value)])
        return done.revision if done.succeeded else 0

    async def remove(self, key: EndpointKey, seen: StoredBinding) -> bool:
        """Forget what was seen; False: it has changed meanwhile."""
        name = self._keys.binding(*key)
        fence = Unchanged(name, seen.revision)
        return (await self._store.commit([fence], [Delete(name)])).succeeded

    async def changes(self, key: EndpointKey, after: int) -> AsyncGenerator[Binding | None, None]:
        """Every change of it after a revision; None: it is gone. Raises Compacted."""
        name = self._keys.binding(*key)
        async for batch in self._store.watch([(name, name + b"\0")], after=after):
            for change in batch.changes:
                yield None if change.value is None else BINDING.decode(change.value)
