"""Restores the state keys from the log, after ``core.audit.verify`` has found differences.

A step is one transaction. If a key has changed since the differences were found, the step does
nothing; run ``verify`` again.

A step for claims writes an event, because it changes the revision of the claim's key: a later
release must name the new revision. Other steps write no event, because the log already has it. They
rewrite the guard keys of pools, subnets, reservations, quarantine or records. Then a concurrent
allocation that read the old value fails.

A claim that has no key, and that no endpoint lists, is released with the reason ``repair``.
Every other inconsistency of the log is left to the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from core.audit.state_check import STATE_CODECS, Difference, State
from core.domain.addresses.ip_address import Family
from core.domain.events import AddressesClaimed, AddressesReleased, Cause, Release
from core.domain.evolution import EndpointKey, Ledger, claims_made
from core.domain.model import Claim, Endpoint, Nic, Pool, Quarantine, Reservation, Subnet
from core.errors import LogCorrupt
from core.eventstore.codec import CLAIM_CODEC, ENDPOINT_CODEC, HEAD_CODEC, EventDraft
from core.eventstore.group_commit import Lost, Proposal
from core.eventstore.keys import Keys, key_text
from core.eventstore.kinds import HEAD_KEYS
from core.eventstore.kv import Absent, Delete, Get, Guard, KeyValueStore, Put, Unchanged, Write
from core.eventstore.log_reader import head_from_log
from core.eventstore.writer import Writer

_TOPICS: Final[Mapping[str, str]] = {
    "pool": "pools",
    "subnet": "subnets",
    "reservation": "reservations",
    "quarantine": "quarantine",
    "record": "records",
}
"""Prefix of a state key -> topic of its guard keys."""

_FAMILIES: Final[tuple[Family, ...]] = (4, 6)


class RepairStep(NamedTuple):
    """One transaction of a repair.

    A step without writes and without an event is for the user; ``text`` states what to do.
    """

    text: str
    guards: tuple[Guard, ...] = ()
    writes: tuple[Write, ...] = ()
    event: AddressesClaimed | AddressesReleased | None = None

    @property
    def is_automatic(self) -> bool:
        return bool(self.writes) or self.event is not None


class Repaired(NamedTuple):
    """The texts of the steps, by their outcome.

    ``changed_meanwhile``: steps that did nothing, because a key changed after the plan was made.
    ``manual``: steps that the user must do.
    """

    done: tuple[str, ...]
    changed_meanwhile: tuple[str, ...]
    manual: tuple[str, ...]


def plan_repair(
    ledger: Ledger, differences: Sequence[Difference], state: State, keys: Keys
) -> tuple[RepairStep, ...]:
    """The steps that make the state equal to the ledger."""
    steps: list[RepairStep] = []
    differing_claims: dict[EndpointKey, list[Difference]] = {}
    for difference in differences:
        if difference.kind == "ip" and isinstance(difference.expected, Claim):
            key = difference.expected.namespace, difference.expected.pod
            differing_claims.setdefault(key, []).append(difference)
        elif difference.kind != "endpoint":
            steps.append(_restore(difference, keys))
    for key, claim_differences in differing_claims.items():
        steps += _claim_again(ledger, key, claim_differences, state, keys)
    # A step for the claims of an endpoint also writes the endpoint.
    written_keys = {write.key for step in steps for write in step.writes if isinstance(write, Put)}
    steps += [
        _restore(difference, keys)
        for difference in differences
        if difference.kind == "endpoint" and difference.key not in written_keys
    ]
    return tuple(steps)


async def plan_heads(
    store: KeyValueStore, keys: Keys, revision: int, sealed: Mapping[str, int]
) -> tuple[RepairStep, ...]:
    """The steps that restore undecodable head keys from the log. Raises StoreUnavailable.

    ``sealed``: writer -> the number of its last segment in the archive.
    """
    steps: list[RepairStep] = []
    for kv in (await store.read([Get(*keys.range_of("head"))], revision=revision)).ranges[0].kvs:
        try:
            HEAD_KEYS.decode(keys, kv.key, kv.value)
        except LogCorrupt:
            name = key_text(keys, kv.key)
            writer = name.partition("/")[2]
            guard = Unchanged(kv.key, kv.mod_revision)
            if not keys.is_writer(writer):
                text = f"delete {name}: it belongs to no writer"
                steps.append(RepairStep(text, (guard,), (Delete(kv.key),)))
                continue
            head = await head_from_log(store, keys, kv, revision, sealed.get(writer, 0))
            text = f"write the head of {writer}: its last segment is {head.seq}"
            steps.append(RepairStep(text, (guard,), (Put(kv.key, HEAD_CODEC.encode(head)),)))
    return tuple(steps)


async def repair(
    plan: Sequence[RepairStep], store: KeyValueStore, keys: Keys, writer: Writer, cause: Cause
) -> Repaired:
    """Execute the steps, one transaction each.

    Raises StoreUnavailable, OutcomeUnknown, WriterFenced. An error does not undo earlier steps.
    """
    applied: list[str] = []
    changed_meanwhile: list[str] = []
    manual: list[str] = []
    for step in plan:
        if not step.is_automatic:
            manual.append(step.text)
        elif await _execute(step, store, keys, writer, cause):
            applied.append(step.text)
        else:
            changed_meanwhile.append(step.text)
    return Repaired(tuple(applied), tuple(changed_meanwhile), tuple(manual))


async def _execute(
    step: RepairStep, store: KeyValueStore, keys: Keys, writer: Writer, cause: Cause
) -> bool:
    """Commit a step; False if a key changed after the plan was made."""
    event = step.event
    if event is None:
        return (await store.commit(step.guards, step.writes)).succeeded
    event_id = writer.event_id()
    new_claims = claims_made(event, event_id) if isinstance(event, AddressesClaimed) else ()
    claim_writes = [
        Put(keys.ip_of(address), CLAIM_CODEC.encode(claim)) for address, claim in new_claims
    ]
    proposal = Proposal(
        (EventDraft(event_id, cause, event),), step.guards, (*step.writes, *claim_writes)
    )
    return not isinstance(await writer.append(proposal), Lost)


def _restore(difference: Difference, keys: Keys) -> RepairStep:
    guard = _guard(difference.key, difference.found_revision)
    guard_writes = _guard_writes(difference, keys)
    if difference.expected is None:
        text = f"delete {difference.kind} {difference.name}, which has no event in the log"
        return RepairStep(text, (guard,), (Delete(difference.key), *guard_writes))
    verb = "write" if difference.found is None else "correct"
    write = Put(difference.key, STATE_CODECS[difference.kind].encode(difference.expected))
    text = f"{verb} {difference.kind} {difference.name} from the log"
    return RepairStep(text, (guard,), (write, *guard_writes))


def _claim_again(
    ledger: Ledger, key: EndpointKey, differences: list[Difference], state: State, keys: Keys
) -> list[RepairStep]:
    endpoint = ledger.endpoints.get(key)
    differing_addresses = {difference.name for difference in differences}
    nic_indexes: list[int] = []
    rewritten_addresses: set[str] = set()
    for index, nic in enumerate(endpoint.nics if endpoint else ()):
        addresses = {address for address, _ in nic.addresses()}
        if addresses & differing_addresses and _is_claimed_by(ledger, endpoint, nic):
            nic_indexes.append(index)
            rewritten_addresses |= addresses
    steps = [
        _missing_release(ledger, key, difference, state, keys)
        for difference in differences
        if difference.name not in rewritten_addresses
    ]
    if endpoint is None or not nic_indexes:
        return steps
    endpoint_key = keys.endpoint(*key)
    guarded_keys = [endpoint_key, *(keys.ip_of(address) for address in sorted(rewritten_addresses))]
    addresses_text = ", ".join(sorted(differing_addresses & rewritten_addresses))
    step = RepairStep(
        f"write the claim of {addresses_text} by {'/'.join(key)} again",
        tuple(_guard(guarded_key, _revision(state, guarded_key)) for guarded_key in guarded_keys),
        (Put(endpoint_key, ENDPOINT_CODEC.encode(endpoint)),),
        AddressesClaimed(endpoint, tuple(nic_indexes)),
    )
    return [*steps, step]


def _missing_release(
    ledger: Ledger, key: EndpointKey, difference: Difference, state: State, keys: Keys
) -> RepairStep:
    """The release of a claim; a manual step if the claim has a key or the endpoint lists it."""
    endpoint = ledger.endpoints.get(key)
    endpoint_addresses = dict(endpoint.addresses()) if endpoint is not None else {}
    path = "/".join(key)
    if difference.found is not None or difference.name in endpoint_addresses:
        return RepairStep(
            f"claim of {difference.name}: the log has a claim by {path}, which contradicts other"
            " events (see `orbctl verify`); find out which Pod uses the address, and release it"
            " manually"
        )
    ledger_claim = ledger.claims[difference.name]
    release = Release(
        difference.name, ledger_claim.claim.pool, ledger_claim.claim.holder, ledger_claim.revision
    )
    nics = endpoint.nics if endpoint is not None else ()
    evidence = "the claim has no key, and no endpoint lists it"
    endpoint_key = keys.endpoint(*key)
    return RepairStep(
        f"release {difference.name}: its key is missing and the release of {path} did not list it",
        (Absent(difference.key), _guard(endpoint_key, _revision(state, endpoint_key))),
        event=AddressesReleased(*key, (release,), nics, "repair", evidence),
    )


def _is_claimed_by(ledger: Ledger, endpoint: Endpoint | None, nic: Nic) -> bool:
    for address, pool in nic.addresses():
        ledger_claim = ledger.claims.get(address)
        if ledger_claim is None or endpoint is None:
            return False
        claim = ledger_claim.claim
        claim_fields = (claim.pool, claim.holder, claim.namespace, claim.pod)
        if claim_fields != (pool, endpoint.holder, endpoint.namespace, endpoint.name):
            return False
    return True


def _guard_writes(difference: Difference, keys: Keys) -> tuple[Write, ...]:
    """The writes of the guard keys, as in ``core.configuration.configurator``."""
    topic = _TOPICS.get(difference.kind)
    if topic is None:
        return ()
    if topic == "records":  # the guard key of records has family 4
        return (Put(keys.guard(topic, 4), b""),)
    values = (difference.expected, difference.found)
    with_family = Pool | Quarantine | Reservation | Subnet
    families = {value.family for value in values if isinstance(value, with_family)}
    return tuple(Put(keys.guard(topic, family), b"") for family in families or set(_FAMILIES))


def _guard(key: bytes, revision: int) -> Guard:
    return Unchanged(key, revision) if revision else Absent(key)


def _revision(state: State, key: bytes) -> int:
    kv = state.get(key)
    return 0 if kv is None else kv.mod_revision
