"""One candidate leads until it stops. Then another one leads and the former leader cannot write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from core.errors import LogCorrupt, LostRace, StoreRejected
from core.eventstore.election import Election, LeaderTerm, read_leader
from core.eventstore.keys import Keys
from core.eventstore.kv import Delete, Get, KeyValueStore, Put
from core.eventstore.memory_store import MemoryStore
from tests.support.faulty_store import Fault, FaultyStore

DEADLINE_S = 60


class Candidate:
    def __init__(self, store: KeyValueStore, keys: Keys, name: str, ttl_s: int = 2) -> None:
        self.election = Election(store, keys, "controller", name, ttl_s=ttl_s)
        self.terms: list[LeaderTerm] = []
        self.term_started = asyncio.Event()
        self.term_ended = asyncio.Event()
        self.task = asyncio.create_task(self.election.lead(self.work))

    async def work(self, term: LeaderTerm) -> None:
        self.terms.append(term)
        self.term_started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.term_started.clear()
            self.term_ended.set()

    async def until(self, event: asyncio.Event) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await event.wait()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


async def test_a_second_candidate_takes_over_when_the_leader_stops(
    store: KeyValueStore, keys: Keys
) -> None:
    first = Candidate(store, keys, "c-1")
    await first.until(first.term_started)
    second = Candidate(store, keys, "c-2")
    await asyncio.sleep(0)
    assert not second.term_started.is_set()
    leader = await read_leader(store, keys, "controller")
    assert leader is not None
    assert leader[0].name == "c-1"

    await first.stop()
    await second.until(second.term_started)

    assert second.terms[0].epoch > first.terms[0].epoch
    assert first.election.term is None
    await second.stop()
    assert await read_leader(store, keys, "controller") is None


async def test_a_second_candidate_leads_when_the_lease_of_the_leader_ends(
    store: KeyValueStore, keys: Keys
) -> None:
    first = Candidate(store, keys, "c-1")
    await first.until(first.term_started)
    second = Candidate(store, keys, "c-2")
    await store.revoke_lease(first.terms[0].lease)

    await second.until(second.term_started)
    await first.until(first.term_ended)

    assert second.terms[0].epoch > first.terms[0].epoch
    await first.stop()
    await second.stop()


async def test_the_fence_stops_a_write_of_an_older_term(store: KeyValueStore, keys: Keys) -> None:
    first = Candidate(store, keys, "c-1")
    await first.until(first.term_started)
    old_term = first.terms[0]
    assert (await store.commit([old_term.fence], [Put(keys.meta("x"), b"1")])).succeeded
    await first.stop()
    second = Candidate(store, keys, "c-2")
    await second.until(second.term_started)

    late_commit = await store.commit([old_term.fence], [Put(keys.meta("x"), b"late")])

    assert not late_commit.succeeded
    assert (await store.read([Get(keys.meta("x"))])).ranges[0].kvs[0].value == b"1"
    await second.stop()


async def test_a_leader_leads_again_after_its_lease_was_revoked(
    store: KeyValueStore, keys: Keys
) -> None:
    first = Candidate(store, keys, "c-1")
    await first.until(first.term_started)
    first.term_started.clear()
    await store.revoke_lease(first.terms[0].lease)

    await first.until(first.term_ended)
    await first.until(first.term_started)

    assert len(first.terms) == 2
    await first.stop()


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST])
async def test_a_candidate_leads_after_its_commit_had_no_answer(
    store: KeyValueStore, keys: Keys, fault: Fault
) -> None:
    faulty_store = FaultyStore(store)
    faulty_store.fail_next_commits(fault)
    first = Candidate(faulty_store, keys, "c-1")

    await first.until(first.term_started)

    stored = (await store.read([Get(keys.lease("controller"))])).ranges[0].kvs[0]
    assert first.terms[0].epoch == stored.mod_revision
    assert first.terms[0].lease == stored.lease
    await first.stop()


async def test_a_candidate_leads_after_its_lease_ended_before_the_commit(
    store: KeyValueStore, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant_lease = store.grant_lease
    leases: list[int] = []

    async def grant(ttl_s: int) -> int:
        leases.append(await grant_lease(ttl_s))
        if len(leases) == 1:
            await store.revoke_lease(leases[0])
        return leases[-1]

    monkeypatch.setattr(store, "grant_lease", grant)
    terms: list[LeaderTerm] = []

    async def work(term: LeaderTerm) -> None:
        terms.append(term)

    await Election(store, keys, "controller", "c-1", ttl_s=2).lead(work)

    assert [term.lease for term in terms] == leases[1:]


def work_that_raises(error: Exception) -> Callable[[LeaderTerm], Awaitable[None]]:

    async def work(term: LeaderTerm) -> None:
        raise error

    return work


async def test_an_error_that_cannot_be_retried_ends_the_election(
    store: KeyValueStore, keys: Keys
) -> None:
    election = Election(store, keys, "controller", "c-1", ttl_s=2)

    with pytest.raises(LogCorrupt):
        await election.lead(work_that_raises(LogCorrupt("a bad segment")))

    assert await read_leader(store, keys, "controller") is None


async def endless_work(term: LeaderTerm) -> None:
    await asyncio.Event().wait()


async def test_a_rejected_renewal_of_the_lease_ends_the_election(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()

    async def refuse(lease: int) -> int:
        raise StoreRejected("the role was taken away")

    monkeypatch.setattr(store, "keep_lease", refuse)
    election = Election(store, keys, "controller", "c-1", ttl_s=2)

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(StoreRejected):
            await election.lead(endless_work)


async def test_a_leader_leads_again_after_its_work_lost_a_race(
    store: KeyValueStore, keys: Keys
) -> None:
    terms: list[LeaderTerm] = []

    async def work(term: LeaderTerm) -> None:
        terms.append(term)
        if len(terms) == 1:
            raise LostRace("this process is no longer the leader")

    await Election(store, keys, "controller", "c-1", ttl_s=2).lead(work)

    assert len(terms) == 2
    assert terms[0].epoch < terms[1].epoch


async def test_writes_of_a_leader_fail_after_the_leader_key_was_deleted(
    store: KeyValueStore, keys: Keys
) -> None:
    first = Candidate(store, keys, "c-1")
    await first.until(first.term_started)
    await store.commit([], [Delete(keys.lease("controller"))])

    assert not (await store.commit([first.terms[0].fence], [Put(keys.meta("x"), b"1")])).succeeded
    await first.stop()


async def test_an_undecodable_leader_key_is_overwritten_by_the_next_leader(
    store: KeyValueStore, keys: Keys
) -> None:
    await store.commit([], [Put(keys.lease("controller"), b"\xffgarbage")])
    with pytest.raises(LogCorrupt, match="leader lease/controller cannot be decoded"):
        await read_leader(store, keys, "controller")

    candidate = Candidate(store, keys, "one")
    await candidate.until(candidate.term_started)

    leader = await read_leader(store, keys, "controller")
    assert leader is not None
    assert leader[0].name == "one"
    await candidate.stop()
