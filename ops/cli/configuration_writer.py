"""Write one command, as every verb of orbctl does that changes the configuration.

What a controller makes from a custom resource can be changed here too, say while there is no API
server. It must never happen unseen that this does not last: as soon as a controller looks, the
object is again as its custom resource says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from core.domain.configuration import commands as wishes
from core.domain.configuration.commands import Command
from core.domain.model import Pool, Reservation, Subnet
from core.eventstore.codec import POOL, RESERVATION, SUBNET, StateCodec
from core.eventstore.kv import Get
from ops.cli.kinds import object_name
from ops.kubernetes.resources import source_of

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

Stored = tuple[bytes, StateCodec[Pool] | StateCodec[Subnet] | StateCodec[Reservation]]


async def write_command(session: ClusterSession, command: Command) -> int:
    """Decide and write; return the number of events. Raises Refused."""
    is_followed = await _is_followed(session, command)
    applied = await session.write(
        lambda writer: session.configurator(writer).apply(command, session.cause)
    )
    if is_followed and applied.events:
        typer.echo(
            f"{object_name(command)} is made from a custom resource: a controller makes it"
            " as that says again; what is to last is changed there, with kubectl",
            err=True,
        )
    return len(applied.events)


async def _is_followed(session: ClusterSession, command: Command) -> bool:
    """Whether the command's object was made from a custom resource."""
    if (stored := _stored(session, command)) is None:
        return False
    key, codec = stored
    found = (await session.store.read([Get(key)])).ranges[0].first
    return found is not None and bool(source_of(codec.decode(found.value)))


def _stored(session: ClusterSession, command: Command) -> Stored | None:
    """Where the state has the object, if custom resources can make such."""
    match command:
        case wishes.ApplyPool(pool):
            return session.keys.pool(pool.name), POOL
        case wishes.RetirePool(name) | wishes.DeletePool(name):
            return session.keys.pool(name), POOL
        case wishes.ApplySubnet(subnet):
            return session.keys.subnet(subnet.name), SUBNET
        case wishes.RetireSubnet(name) | wishes.DeleteSubnet(name):
            return session.keys.subnet(name), SUBNET
        case wishes.ApplyReservation(reservation):
            return session.keys.reservation(reservation.name), RESERVATION
        case wishes.DeleteReservation(name):
            return session.keys.reservation(name), RESERVATION
        case _:
            return None
