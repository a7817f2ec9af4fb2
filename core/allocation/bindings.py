"""Bindings: the state of addresses that a network provider binds.

The key of a binding is written before the provider is called, and deleted after the provider has
unbound the addresses. The states, and what writes them:

    asked      an ADD requests the bind              the agent
    bound      the addresses are bound               the workflow
    failed     the bind failed and is being undone   the workflow
    returning  the addresses must be unbound         the releasing process

Every write is guarded by the revision that was read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, Literal, NamedTuple

from core.allocation.releaser import ClaimRevisions
from core.domain.addresses.ip_address import parse_address
from core.domain.events import BindingChanged, ReleaseReason
from core.domain.evolution import EndpointKey
from core.domain.provider.provider_nics import ProviderAddress
from core.eventstore.codec import EventDraft, KeyKind, StateCodec
from core.eventstore.group_commit import Proposal
from core.eventstore.keys import Keys
from core.eventstore.kv import (
    Absent,
    Delete,
    Get,
    Guard,
    KeyValue,
    KeyValueStore,
    Put,
    Unchanged,
    Write,
    watch_value,
)
from core.process.tracing import TraceContext

State = Literal["asked", "bound", "failed", "returning"]

WHY_CHARS_MAX: Final = 1_000


class BindingRequest(NamedTuple):
    """A request to bind the addresses of one endpoint.

    ``deadline_ms``: when the ADD stops waiting for the bind (Unix milliseconds).
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
        """The id of the workflow. Bind and unbind share it, so that they never overlap."""
        return f"external/{self.namespace}/{self.endpoint}/{self.uid}"

    def event(self, state: str, why: str = "") -> BindingChanged:
        """The event that the binding has changed to this state."""
        addresses = tuple(address.address for address in self.addresses)
        return BindingChanged(
            self.namespace,
            self.endpoint,
            self.pod,
            self.uid,
            self.node,
            addresses,
            state,
            why[:WHY_CHARS_MAX],
        )

    def covers(self, other: BindingRequest) -> bool:
        """Whether this request has the Pod, all addresses and all claims of the other request."""
        return self.uid == other.uid and (
            set(self.addresses) >= set(other.addresses) and set(self.claims) >= set(other.claims)
        )


class Binding(NamedTuple):
    """A binding. ``why``: the failure, or the evidence for the release.

    ``gone``: container IDs of sandboxes that ended while another sandbox had NICs of the endpoint.
    """

    request: BindingRequest
    state: State
    why: str = ""
    reason: ReleaseReason = "unbound"
    gone: tuple[str, ...] = ()
    trace: TraceContext = TraceContext()

    @property
    def is_ending(self) -> bool:
        """Whether the addresses are being unbound."""
        return self.state in ("failed", "returning")


class StoredBinding(NamedTuple):
    """A binding as read. ``revision``: the key's revision (0: no binding is stored)."""

    binding: Binding | None = None
    revision: int = 0

    @classmethod
    def of(cls, kv: KeyValue | None) -> StoredBinding:
        """Decode the value of a binding's key. Raises LogCorrupt."""
        return cls() if kv is None else cls(BINDING_CODEC.decode(kv.value), kv.mod_revision)


def _check_binding(binding: Binding) -> None:
    for address, _ in binding.request.claims:
        parse_address(address)


BINDING_CODEC: Final = StateCodec(Binding, _check_binding)
BINDING_KEYS: Final[KeyKind[Binding]] = KeyKind(
    name="binding",
    prefix="binding",
    decode=BINDING_CODEC.decode,
    readers=("agent", "controller", "worker", "orbctl"),
    remedy="unbind the addresses of this endpoint at the network provider, then delete the key:"
    " the next ADD of the Pod writes a new key",
    key_of=lambda keys, binding: keys.binding(*binding.request.key),
)


class BindingStore:
    """Bindings in etcd. Raises StoreUnavailable, and OutcomeUnknown in writes."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def find(self, key: EndpointKey) -> StoredBinding:
        """Read the binding of an endpoint."""
        return StoredBinding.of(
            (await self._store.read([Get(self._keys.binding(*key))])).ranges[0].first
        )

    async def write(self, stored: StoredBinding, binding: Binding, *guards: Guard) -> int:
        """Replace the stored binding. Returns the new revision, 0 after a lost race."""
        name = self._keys.binding(*binding.request.key)
        fence = Unchanged(name, stored.revision) if stored.revision else Absent(name)
        value = BINDING_CODEC.encode(binding._replace(why=binding.why[:WHY_CHARS_MAX]))
        result = await self._store.commit([fence, *guards], [Put(name, value)])
        return result.revision if result.succeeded else 0

    def proposal(
        self, stored: StoredBinding, binding: Binding | None, draft: EventDraft
    ) -> Proposal:
        """The transaction of an event and the new binding. None deletes the stored binding."""
        assert stored.binding is not None, "there is no stored binding to change"
        name = self._keys.binding(*stored.binding.request.key)
        if binding is None:
            write: Write = Delete(name)
        else:
            write = Put(
                name, BINDING_CODEC.encode(binding._replace(why=binding.why[:WHY_CHARS_MAX]))
            )
        return Proposal((draft,), (Unchanged(name, stored.revision),), (write,))

    async def remove(self, key: EndpointKey, stored: StoredBinding) -> bool:
        """Delete the stored binding; False after a lost race."""
        name = self._keys.binding(*key)
        fence = Unchanged(name, stored.revision)
        return (await self._store.commit([fence], [Delete(name)])).succeeded

    async def states(self, key: EndpointKey) -> AsyncGenerator[Binding | None, None]:
        """Yield the binding, then each change; None: no binding is stored. Raises Compacted."""
        async for value in watch_value(self._store, self._keys.binding(*key)):
            yield None if value is None else BINDING_CODEC.decode(value)
