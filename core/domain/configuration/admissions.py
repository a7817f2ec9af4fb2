"""Pools and subnets that a webhook has admitted and that may not be in the log yet.

Such an object is a pending admission, until the controller has written it to the log. The next
review is decided on the log as it is, and again with the pending admissions added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from core.domain.addresses.ip_address import Family
from core.domain.configuration.commands import ApplyPool, ApplySubnet, Command
from core.domain.configuration.configuration_state import Configuration
from core.domain.events import Event, PoolDefined, SubnetDefined
from core.domain.model import Pool, Subnet
from core.domain.validation.pool_rules import cidr_of_subnet
from core.errors import Refusal


class PendingAdmission(NamedTuple):
    """An admitted object as it will be in the log: a ``pool`` or a ``subnet``.

    ``review``: the UID of the request. ``uid``: the UID of the object. ``admitted_at_s``: Unix
    seconds by the API server's clock.
    """

    review: str
    uid: str
    generation: int
    admitted_at_s: float
    pool: Pool | None = None
    subnet: Subnet | None = None

    @property
    def value(self) -> Pool | Subnet:
        value = self.pool if self.pool is not None else self.subnet
        assert value is not None, self
        return value

    @property
    def kind(self) -> str:
        return "pool" if self.pool is not None else "subnet"


class Extent(NamedTuple):
    """The fields of a pool or subnet that can conflict with other objects."""

    family: Family
    subnet: str
    ips: tuple[str, ...]
    exclude_ips: tuple[str, ...]


class AdmissionConflict(NamedTuple):
    """A pending admission that forbids a command which the log alone allows."""

    admission: PendingAdmission
    refusals: tuple[Refusal, ...]


class DryRun(NamedTuple):
    """The events that a command would cause, and the pending admissions that forbid it."""

    events: tuple[Event, ...]
    conflicts: tuple[AdmissionConflict, ...] = ()


def extent_of(value: Pool | Subnet) -> Extent:
    """The extent of a normalised object."""
    return Extent(value.family, value.subnet, value.ips, value.exclude_ips)


def admitted_value(command: Command, events: Iterable[Event]) -> Pool | Subnet | None:
    """The pool or subnet that the events store; None if the command changes nothing."""
    for event in events:
        match command, event:
            case ApplyPool(), PoolDefined(pool):
                return pool
            case ApplySubnet(), SubnetDefined(subnet):
                return subnet
    return None


def overlapping_admissions(
    command: Command, pending: Iterable[PendingAdmission]
) -> list[PendingAdmission]:
    """The admissions of other objects that overlap the command's pool or subnet."""
    match command:
        case ApplyPool(value) | ApplySubnet(value):
            kind = "pool" if isinstance(value, Pool) else "subnet"
        case _:
            return []
    cidr = cidr_of_subnet(value.subnet)
    admissions = []
    for admission in pending:
        other = cidr_of_subnet(admission.value.subnet)
        overlaps = other.first <= cidr.last and cidr.first <= other.last
        is_same_object = (admission.kind, admission.value.name) == (kind, value.name)
        if other.family == cidr.family and overlaps and not is_same_object:
            admissions.append(admission)
    return admissions


def configurations_with_admissions(
    configuration: Configuration, pending: Iterable[PendingAdmission]
) -> Iterator[Configuration]:
    """Yield configurations that together contain every admission.

    One is enough, unless an object has several admissions: each is in another configuration.
    """
    layers: list[tuple[dict[str, Pool], dict[str, Subnet]]] = []
    for admission in pending:
        name = admission.value.name
        for pools, subnets in layers:
            if name not in (pools if admission.pool is not None else subnets):
                break
        else:
            pools, subnets = {}, {}
            layers.append((pools, subnets))
        if admission.pool is not None:
            pools[name] = admission.pool
        elif admission.subnet is not None:
            subnets[name] = admission.subnet
    for pools, subnets in layers:
        yield configuration._replace(
            pools={**configuration.pools, **pools},
            subnets={**configuration.subnets, **subnets},
        )
