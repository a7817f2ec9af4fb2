"""Assign and release the GUIDs of one node's virtual functions, with events in the log.

A transaction commits only if the values that were read have not changed: a GUID has one holder
(I1), and the keys equal the fold of the log (I5). A repeated call changes nothing.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from core.domain.events import Cause, GuidReleaseReason, GuidsReleased
from core.domain.evolution import evolve_guids
from core.domain.sriov.guid_decisions import (
    GuidConflict,
    GuidEvent,
    claim_of,
    decide_assignment,
    guids_by_node,
)
from core.domain.sriov.model import GuidClaim, NodeGuids, VfGuid
from core.errors import LostRace
from core.eventstore.codec import GUID_CLAIM_CODEC, NODE_GUIDS_CODEC, EventDraft
from core.eventstore.group_commit import Lost, Proposal
from core.eventstore.keys import Keys
from core.eventstore.kinds import GUID_CLAIM_KEYS, NODE_GUIDS_KEYS
from core.eventstore.kv import Absent, Delete, Get, KeyValueStore, Put, Unchanged, Write
from core.eventstore.writer import Writer

GUIDS_IN_TRANSACTION_MAX: Final = 48
"""Each GUID needs up to two writes: its claim, and a former node's list."""

ATTEMPTS_MAX: Final = 4
"""An attempt fails if another agent has changed the same keys."""


class _Read(NamedTuple):
    claims: Mapping[str, GuidClaim]
    revisions: Mapping[bytes, int]


class GuidRegistry:
    """The GUIDs of one node. Raises StoreError, LogError and the errors of ``Writer.append``."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, writer: Writer, node: str, cause: Cause
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._node = node
        self._cause = cause

    async def held(self) -> tuple[VfGuid, ...]:
        """The GUIDs of this node."""
        read = await self._read([self._keys.node_guids(self._node)])
        return _guids_of(self._node, read.claims)

    async def assign(
        self, requested: Sequence[VfGuid], replaced: Collection[VfGuid] = ()
    ) -> list[GuidConflict]:
        """Assign GUIDs to virtual functions of this node; returns a conflict for each GUID in use.

        ``replaced``: GUIDs of this node that other virtual functions may get.
        """
        conflicts: list[GuidConflict] = []
        for part in _parts(requested):
            conflicts += await self._assign(part, replaced)
        return conflicts

    async def release(self, ended: Iterable[tuple[VfGuid, GuidReleaseReason]]) -> None:
        """Release GUIDs of this node."""
        by_reason: dict[GuidReleaseReason, list[VfGuid]] = {}
        for guid, reason in ended:
            by_reason.setdefault(reason, []).append(guid)
        for reason, guids in by_reason.items():
            for part in _parts(guids):
                await self._release(part, reason)

    async def _assign(
        self, requested: Sequence[VfGuid], replaced: Collection[VfGuid]
    ) -> Sequence[GuidConflict]:
        for _ in range(ATTEMPTS_MAX):
            read = await self._read([self._keys.guid(guid.guid) for guid in requested])
            decision = decide_assignment(self._node, requested, read.claims, replaced)
            if await self._commit(decision.events, read):
                return decision.conflicts
        raise self._lost_race()

    async def _release(self, ended: Sequence[VfGuid], reason: GuidReleaseReason) -> None:
        for _ in range(ATTEMPTS_MAX):
            read = await self._read([self._keys.guid(guid.guid) for guid in ended])
            releases = tuple(
                guid for guid in ended if read.claims.get(guid.guid) == claim_of(self._node, guid)
            )
            events = [GuidsReleased(self._node, releases, reason)] if releases else []
            if await self._commit(events, read):
                return
        raise self._lost_race()

    async def _commit(self, events: Sequence[GuidEvent], read: _Read) -> bool:
        """Returns False if another agent changed a key first."""
        if not events:
            return True
        nodes = sorted({event.node for event in events})
        lists = await self._read([self._keys.node_guids(node) for node in nodes])
        claims = {**read.claims, **lists.claims}
        for event in events:
            evolve_guids(claims, event)
        revisions = {**read.revisions, **lists.revisions}
        outcome = await self._writer.append(self._proposal(events, claims, revisions))
        return not isinstance(outcome, Lost)

    def _proposal(
        self,
        events: Sequence[GuidEvent],
        claims: Mapping[str, GuidClaim],
        revisions: Mapping[bytes, int],
    ) -> Proposal:
        """``claims`` have the state after the events, ``revisions`` the state before them."""
        keys = self._keys
        writes: dict[bytes, Write] = {}
        for event in events:
            for guid in event.guids:
                key, claim = keys.guid(guid.guid), claims.get(guid.guid)
                writes[key] = (
                    Delete(key) if claim is None else Put(key, GUID_CLAIM_CODEC.encode(claim))
                )
            key, guids = keys.node_guids(event.node), _guids_of(event.node, claims)
            value = NODE_GUIDS_CODEC.encode(NodeGuids(event.node, guids))
            writes[key] = Put(key, value) if guids else Delete(key)
        guards = [
            Unchanged(key, revisions[key]) if revisions.get(key) else Absent(key) for key in writes
        ]
        drafts = [EventDraft(self._writer.event_id(), self._cause, event) for event in events]
        return Proposal(tuple(drafts), tuple(guards), tuple(writes.values()))

    async def _read(self, keys: Sequence[bytes]) -> _Read:
        result = await self._store.read([Get(key) for key in keys])
        claims: dict[str, GuidClaim] = {}
        revisions: dict[bytes, int] = {}
        for answer in result.ranges:
            for kv in answer.kvs:
                revisions[kv.key] = kv.mod_revision
                if self._keys.prefix_of(kv.key) == GUID_CLAIM_KEYS.prefix:
                    claim = GUID_CLAIM_KEYS.decode(self._keys, kv.key, kv.value)
                    claims[self._keys.check_guid(kv.key)] = claim
                else:
                    node = NODE_GUIDS_KEYS.decode(self._keys, kv.key, kv.value)
                    claims.update((guid.guid, claim_of(node.node, guid)) for guid in node.guids)
        return _Read(claims, revisions)

    def _lost_race(self) -> LostRace:
        return LostRace(
            f"other agents changed the same GUIDs during each of {ATTEMPTS_MAX} attempts",
            subject=self._node,
            remedy="the agent tries again",
        )


def _guids_of(node: str, claims: Mapping[str, GuidClaim]) -> tuple[VfGuid, ...]:
    of_node = {guid: claim for guid, claim in claims.items() if claim.node == node}
    return next((entry.guids for entry in guids_by_node(of_node)), ())


def _parts(guids: Sequence[VfGuid]) -> Iterator[Sequence[VfGuid]]:
    for first in range(0, len(guids), GUIDS_IN_TRANSACTION_MAX):
        yield guids[first : first + GUIDS_IN_TRANSACTION_MAX]
