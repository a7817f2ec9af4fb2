"""Writes the events of configuration commands (``core.domain.configuration``).

Warns if the object is made from a custom resource: a controller will overwrite the change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from core.domain.configuration import commands
from core.domain.configuration.commands import Command
from core.domain.model import Pool, Reservation, Subnet
from core.eventstore.codec import POOL_CODEC, RESERVATION_CODEC, SUBNET_CODEC, StateCodec
from core.eventstore.kv import Get
from ops.cli.kinds import object_name
from ops.kubernetes.translated_kinds import custom_resource_uid

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

KeyAndCodec = tuple[bytes, StateCodec[Pool] | StateCodec[Subnet] | StateCodec[Reservation]]


async def write_command(session: ClusterSession, command: Command) -> int:
    """Write the events of a command; return their number. Raises Refused."""
    has_custom_resource = await _has_custom_resource(session, command)
    applied = await session.write(
        lambda writer: session.configurator(writer).apply(command, session.cause)
    )
    if has_custom_resource and applied.events:
        typer.echo(
            f"warning: {object_name(command)} is made from a custom resource, and a controller will"
            " overwrite this change; change the custom resource with kubectl",
            err=True,
        )
    return len(applied.events)


async def _has_custom_resource(session: ClusterSession, command: Command) -> bool:
    key_and_codec = _key_and_codec(session, command)
    if key_and_codec is None:
        return False
    key, codec = key_and_codec
    kv = (await session.store.read([Get(key)])).ranges[0].first
    return kv is not None and bool(custom_resource_uid(codec.decode(kv.value)))


def _key_and_codec(session: ClusterSession, command: Command) -> KeyAndCodec | None:
    """The object's state key and its codec; None for a kind without custom resources."""
    match command:
        case commands.ApplyPool(pool):
            return session.keys.pool(pool.name), POOL_CODEC
        case commands.RetirePool(name) | commands.DeletePool(name):
            return session.keys.pool(name), POOL_CODEC
        case commands.ApplySubnet(subnet):
            return session.keys.subnet(subnet.name), SUBNET_CODEC
        case commands.RetireSubnet(name) | commands.DeleteSubnet(name):
            return session.keys.subnet(name), SUBNET_CODEC
        case commands.ApplyReservation(reservation):
            return session.keys.reservation(reservation.name), RESERVATION_CODEC
        case commands.DeleteReservation(name):
            return session.keys.reservation(name), RESERVATION_CODEC
        case _:
            return None
