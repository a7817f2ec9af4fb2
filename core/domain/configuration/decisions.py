"""Decides a configuration command: returns the events of the command, or raises Refused.

No I/O. The webhook, dry runs, ``simulate`` and the commit of a command call the same ``decide``.
Before ``decide``, the caller reads the claims of ``removed_addresses``. The caller's transaction
then guards ``addresses_to_guard``.

A command that changes nothing has no event, for example RetirePool of a retiring pool. The deletion
of an unknown object is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import AddressSyntaxError
from core.domain.autopools.pool_names import OWNER_NAME, OWNER_UID
from core.domain.autopools.pool_plan import find_pool, plan_pool
from core.domain.configuration.commands import (
    AdvanceRetirement,
    ApplyAutoPool,
    ApplyPool,
    ApplyRecord,
    ApplyReservation,
    ApplySubnet,
    Command,
    DeletePool,
    DeleteRecord,
    DeleteReservation,
    DeleteSubnet,
    DropAutoPool,
    LiftQuarantine,
    QuarantineAddress,
    Reinstate,
    RetirePool,
    RetireSubnet,
    ReturnAddress,
)
from core.domain.configuration.configuration_state import (
    Configuration,
    pool_addresses,
    readable_addresses,
)
from core.domain.configuration.retirement import decide_retirement, retiring_addresses
from core.domain.events import (
    Event,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    RecordDefined,
    RecordDeleted,
    ReservationDefined,
    ReservationDeleted,
)
from core.domain.model import Claim, Pool, Reservation
from core.domain.quarantine.quarantine_decisions import decide_quarantine
from core.domain.subnets.subnet_decisions import decide_subnet
from core.domain.subnets.subnet_model import adopt
from core.domain.validation.change_rules import (
    addresses_in_use_rule,
    empty_pool_rule,
    immutable_network_rule,
    immutable_reservation_rule,
    retiring_rule,
)
from core.domain.validation.common_rules import (
    ObjectReference,
    family_enabled_rule,
    object_name_rule,
    require,
    size_rule,
    unknown_object,
)
from core.domain.validation.normalization import normalise_network, normalise_reservation
from core.domain.validation.pool_rules import content_rules, reservation_items_rule, subnet_rule
from core.domain.validation.record_rules import record_rules
from core.domain.validation.subnet_rules import owner_rules


def removed_addresses(configuration: Configuration, command: Command) -> AddressSet | None:
    """The addresses that a command may remove from a pool; None if it removes none.

    The result is also None if the command is malformed: ``decide`` then refuses the command.
    """
    if isinstance(command, DeletePool | DropAutoPool):
        pool = configuration.pools.get(command.name)
        return (readable_addresses(pool) or None) if pool else None
    if isinstance(command, AdvanceRetirement):
        return retiring_addresses(configuration, command)
    if isinstance(command, ApplyAutoPool):
        return _removed_by_auto_pool(configuration, command)
    if not isinstance(command, ApplyPool):
        return None
    existing_pool = configuration.pools.get(command.pool.name)
    if existing_pool is None or existing_pool.family != command.pool.family:
        return None
    try:
        remaining_addresses = pool_addresses(normalise_network(command.pool))
    except AddressSyntaxError:
        return None
    return (readable_addresses(existing_pool) - remaining_addresses) or None


def _removed_by_auto_pool(
    configuration: Configuration, command: ApplyAutoPool
) -> AddressSet | None:
    """All addresses of a pool that shrinks: claims decide later which it loses. Else None."""
    desired = command.desired
    pool = find_pool(desired.scope, desired.uid, configuration.pools.values())
    if pool is None or pool_addresses(pool).size <= desired.size:
        return None
    return pool_addresses(pool)


def addresses_to_guard(configuration: Configuration, events: Iterable[Event]) -> AddressSet | None:
    """The addresses that the events of ``decide`` remove; the transaction must guard them."""
    all_removed: AddressSet | None = None
    for event in events:
        match event:
            case PoolDefined(pool) if pool.name in configuration.pools:
                removed = readable_addresses(configuration.pools[pool.name]) - pool_addresses(pool)
            case PoolDeleted(name):
                removed = readable_addresses(configuration.pools[name])
            case _:
                continue
        all_removed = removed if all_removed is None else all_removed | removed
    return all_removed or None


def decide(
    configuration: Configuration, command: Command, claimed: Mapping[str, Claim]
) -> tuple[Event, ...]:
    """The events that a command causes; no events if it changes nothing. Raises Refused.

    ``claimed``: address -> claim, at least for ``removed_addresses(configuration, command)``.
    """
    match command:
        case ApplyPool() | RetirePool() | DeletePool():
            return _decide_pool(configuration, command, claimed)
        case ApplySubnet() | RetireSubnet() | DeleteSubnet():
            return decide_subnet(configuration, command)
        case Reinstate() | AdvanceRetirement():
            return decide_retirement(configuration, command, claimed)
        case ApplyAutoPool() | DropAutoPool():
            return _decide_auto_pool(configuration, command, claimed)
        case ApplyReservation():
            return _apply_reservation(configuration, command.reservation)
        case DeleteReservation(name):
            if name not in configuration.reservations:
                raise unknown_object(ObjectReference("SpiderReservedIP", name))
            return (ReservationDeleted(name),)
        case QuarantineAddress() | LiftQuarantine() | ReturnAddress():
            return decide_quarantine(configuration, command)
        case ApplyRecord():
            return _apply_record(configuration, command.record)
        case DeleteRecord(kind, namespace, name):
            if (kind, namespace, name) not in configuration.records:
                raise unknown_object(ObjectReference(kind, name, namespace))
            return (RecordDeleted(kind, namespace, name),)


def _decide_pool(
    configuration: Configuration,
    command: ApplyPool | RetirePool | DeletePool,
    claimed: Mapping[str, Claim],
) -> tuple[Event, ...]:
    match command:
        case ApplyPool(pool):
            return _apply_pool(configuration, pool, claimed)
        case RetirePool(name):
            retiring = _known_pool(configuration, name).retiring
            return () if retiring else (PoolRetired(name),)
        case DeletePool():
            return _delete_pool(configuration, command, claimed)


def _apply_pool(
    configuration: Configuration, desired: Pool, claimed: Mapping[str, Claim]
) -> tuple[Event, ...]:
    subject = ObjectReference("SpiderIPPool", desired.name)
    require(object_name_rule(subject))
    require(size_rule(subject, desired, desired.labels, desired.annotations))
    existing = configuration.pools.get(desired.name)
    subnets = configuration.owning_subnets
    pool = adopt(normalise_network(desired), subnets, existing)
    if existing is None:
        pool = pool._replace(retiring=False)
        _check_new_pool(configuration, subject, pool)
        require(owner_rules(subject, pool, existing=None, subnets=subnets))
        return (PoolDefined(pool),)
    pool = pool._replace(retiring=existing.retiring)
    if pool == existing:
        return ()
    if existing.retiring:
        require(retiring_rule(subject, existing, pool))
    else:
        _check_changed_pool(configuration, subject, existing, pool, claimed)
        require(owner_rules(subject, pool, existing, subnets))
    return (PoolDefined(pool),)


def _decide_auto_pool(
    configuration: Configuration,
    command: ApplyAutoPool | DropAutoPool,
    claimed: Mapping[str, Claim],
) -> tuple[Event, ...]:
    if isinstance(command, DropAutoPool):
        return _drop_auto_pool(configuration, command, claimed)
    _, before, pool = plan_pool(command.desired, configuration, claimed)
    if pool == before:
        return ()
    subject = ObjectReference("SpiderIPPool", pool.name)
    require(object_name_rule(subject))
    require(size_rule(subject, pool, pool.labels, pool.annotations))
    if before is None:
        _check_new_pool(configuration, subject, pool)
    else:
        _check_changed_pool(configuration, subject, before, pool, claimed)
    return (PoolDefined(pool),)


def _drop_auto_pool(
    configuration: Configuration, command: DropAutoPool, claimed: Mapping[str, Claim]
) -> tuple[Event, ...]:
    """No event if the pool has another owner now, or is not automatic."""
    pool = configuration.pools.get(command.name)
    if pool is None or OWNER_NAME not in pool.labels or pool.labels.get(OWNER_UID) != command.uid:
        return ()
    subject = ObjectReference("SpiderIPPool", pool.name)
    if any(empty_pool_rule(subject, removed_addresses(configuration, command), claimed)):
        return (PoolRetired(pool.name),) if command.retire and not pool.retiring else ()
    return (PoolDeleted(pool.name),)


def _check_new_pool(configuration: Configuration, subject: ObjectReference, pool: Pool) -> None:
    """Check the rules of CREATE in docs/reference/admission.md, "SpiderIPPool". Raises Refused."""
    enabled = configuration.enabled(pool.family)
    require(family_enabled_rule(subject, pool.family, enabled=enabled))
    require(subnet_rule(subject, pool, configuration.pools))
    require(content_rules(subject, pool, configuration.pools))


def _check_changed_pool(
    configuration: Configuration,
    subject: ObjectReference,
    existing: Pool,
    pool: Pool,
    claimed: Mapping[str, Claim],
) -> None:
    """Check the rules of UPDATE in docs/reference/admission.md, "SpiderIPPool". Raises Refused."""
    require(immutable_network_rule(subject, existing, pool))
    enabled = configuration.enabled(pool.family)
    require(family_enabled_rule(subject, pool.family, enabled=enabled))
    removed = removed_addresses(configuration, ApplyPool(pool))
    require(
        chain(
            content_rules(subject, pool, configuration.pools),
            addresses_in_use_rule(subject, removed, claimed),
        )
    )


def _delete_pool(
    configuration: Configuration, command: DeletePool, claimed: Mapping[str, Claim]
) -> tuple[Event, ...]:
    pool = _known_pool(configuration, command.name)
    subject = ObjectReference("SpiderIPPool", pool.name)
    require(empty_pool_rule(subject, removed_addresses(configuration, command), claimed))
    return (PoolDeleted(pool.name),)


def _apply_reservation(configuration: Configuration, desired: Reservation) -> tuple[Event, ...]:
    subject = ObjectReference("SpiderReservedIP", desired.name)
    require(object_name_rule(subject))
    require(size_rule(subject, desired, desired.labels, desired.annotations))
    reservation = normalise_reservation(desired)
    existing = configuration.reservations.get(desired.name)
    if reservation == existing:
        return ()
    if existing is not None:
        require(immutable_reservation_rule(subject, existing, reservation))
    enabled = configuration.enabled(reservation.family)
    require(family_enabled_rule(subject, reservation.family, enabled=enabled))
    require(reservation_items_rule(subject, reservation))
    return (ReservationDefined(reservation),)


def _apply_record(configuration: Configuration, record: RecordDefined) -> tuple[Event, ...]:
    subject = ObjectReference(record.kind, record.name, record.namespace)
    require(record_rules(subject, record))
    require(size_rule(subject, record, record.labels, record.annotations))
    key = (record.kind, record.namespace, record.name)
    return () if configuration.records.get(key) == record else (record,)


def _known_pool(configuration: Configuration, name: str) -> Pool:
    pool = configuration.pools.get(name)
    if pool is None:
        raise unknown_object(ObjectReference("SpiderIPPool", name))
    return pool
