"""Pools and subnets that a webhook has admitted and that the log may not have yet.

The API server stores an object after its webhooks have agreed, and the translator brings it into
the log later still. Until then the object is a pending admission: the next review is judged on the
log and, beside it, on what the log will be once every pending admission has arrived. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from core.domain.addresses.ip_address import Family
from core.domain.configuration.commands import ApplyPool, ApplySubnet, Command
from core.domain.configuration.configuration_state import Configuration
from core.domain.events import Event, PoolDefined, SubnetDefined
from core.domain.model import Pool, Subnet
from core.domain.validation.pools import cidr_of_subnet
from core.errors import Refusal


class PendingAdmission(NamedTuple):
    """An admitted object as it will be in the log: a ``pool`` or a ``subnet``.

    ``uid`` and ``generation`` are the object's, ``review`` names the request that was admitted.
    ``admitted_at_s``: Unix seconds by the API server's clock.
    """

    review: str
    uid: str
    generation: int
    admitted_at_s: float
    pool: Pool | None = None
    subnet: Subnet | None = None

    @property
    def value(self) -> Pool | Subnet:
        """The pool or the subnet."""
        value = self.pool if self.pool is not None else self.subnet
        assert value is not None, self
        return value

    @property
    def kind(self) -> str:
        """``pool`` or ``subnet``."""
        return "pool" if self.pool is not None else "subnet"


class Extent(NamedTuple):
    """What of a pool or subnet other objects are judged by."""

    family: Family
    subnet: str
    ips: tuple[str, ...]
    exclude_ips: tuple[str, ...]


class AdmissionConflict(NamedTuple):
    """A pending admission that forbids a command which the log alone allows."""

    admission: PendingAdmission
    refusals: tuple[Refusal, ...]


class DryRun(NamedTuple):
    """The events that a command would cause, and what admissions under way have against it."""

    events: tuple[Event, ...]
    conflicts: tuple[AdmissionConflict, ...] = ()


def extent_of(value: Pool | Subnet) -> Extent:
    """The extent of a normalised pool or subnet."""
    return Extent(value.family, value.subnet, value.ips, value.exclude_ips)


def admitted_value(command: Command, events: Iterable[Event]) -> Pool | Subnet | None:
    """What the log will have of an applied pool or subnet; None: it changes nothing."""
    for event in events:
        match command, event:
            case ApplyPool(), PoolDefined(pool):
                return pool
            case ApplySubnet(), SubnetDefined(subnet):
                return subnet
    return None


def related(command: Command, pending: Iterable[PendingAdmission]) -> list[PendingAdmission]:
    """The admissions of other objects whose CIDR overlaps the command's pool or subnet."""
    match command:
        case ApplyPool(value) | ApplySubnet(value):
            kind = "pool" if isinstance(value, Pool) else "subnet"
        case _:
            return []
    cidr = cidr_of_subnet(value.subnet)
    affected = []
    for admission in pending:
        theirs = cidr_of_subnet(admission.value.subnet)
        overlaps = theirs.first <= cidr.last and cidr.first <= theirs.last
        is_itself = (admission.kind, admission.value.name) == (kind, value.name)
        if theirs.family == cidr.family and overlaps and not is_itself:
            affected.append(admission)
    return affected


def with_admitted(
    configuration: Configuration, pending: Iterable[PendingAdmission]
) -> Iterator[Configuration]:
    """The configuration with the admissions in it; more than one if an object has several."""
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
