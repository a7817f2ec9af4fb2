"""``orbctl as-of``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.archive.replay import open_log
from core.audit.state_at import as_of_position, as_of_time
from core.domain.addresses.ip_address import require_address
from core.domain.evolution import Ledger
from core.errors import BadInput, NotFound
from ops.cli.action_runner import perform
from ops.cli.commands.get import LISTED_KINDS
from ops.cli.formats import Output
from ops.cli.kinds import ObjectKind, kind_of, plural, split_name
from ops.cli.name_completion import complete_kind, complete_names
from ops.cli.object_selection import ObjectSelection, listing_of
from ops.cli.output import moment, print_heading, show, show_value
from ops.cli.time_arguments import parse_time

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession


def as_of(
    context: typer.Context,
    when: Annotated[
        str, typer.Argument(help="a time (14:03, 15m ago, ISO 8601) or a log position")
    ],
    kind: Annotated[
        str,
        typer.Argument(help="a kind of `orbctl get`, or address", autocompletion=complete_kind),
    ] = "",
    name: Annotated[
        str, typer.Argument(help="name of one object; default: all", autocompletion=complete_names)
    ] = "",
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", help="namespace; default: all")
    ] = "",
) -> None:
    """Show objects as they were at a time or log position.

    Examples:
      orbctl as-of 14:03
      orbctl as-of '15m ago' pools
      orbctl as-of 2026-03-01T14:03:00Z endpoint shop/web-0
      orbctl as-of 1234 address 10.6.0.17
    """
    object_kind = kind_of(kind, (*LISTED_KINDS, ObjectKind.ADDRESS)) if kind else None

    async def action(session: ClusterSession) -> None:
        ledger, title = await session.read(lambda: _past_state(session, when))
        if not session.output.is_name and not session.output.is_structured:
            typer.echo(title, err=object_kind is not None)
        if object_kind is None:
            _show_all(ledger, session.output)
        elif object_kind is ObjectKind.ADDRESS:
            _show_address(ledger, name, session.output)
        else:
            object_namespace, plain_name = split_name(name, namespace)
            selection = ObjectSelection(object_kind, plain_name, object_namespace, session.output)
            show(listing_of(ledger, selection), session.output, single=bool(name))

    perform(context, action)


async def _past_state(session: ClusterSession, when: str) -> tuple[Ledger, str]:
    """The past state, and a title that names its time or position."""
    view = await open_log(session.store, session.keys, session.archive)
    if when.isdigit():
        position = int(when)
        return await as_of_position(view, position), f"as of position {position}"
    time_ms = parse_time(when, session.now_ms())
    if time_ms > session.now_ms():
        raise BadInput(
            f"{moment(time_ms)} is in the future; it is {moment(session.now_ms())} now",
            subject="time",
            remedy="give a time in the past; `orbctl get` shows the present",
        )
    ledger = await as_of_time(view, time_ms)
    return ledger, f"as of {moment(time_ms)}, position {ledger.position}"


def _show_all(ledger: Ledger, output: Output) -> None:
    kinds = (
        ObjectKind.POOL,
        ObjectKind.SUBNET,
        ObjectKind.RESERVATION,
        ObjectKind.QUARANTINE,
        ObjectKind.ENDPOINT,
    )
    listings = {
        kind: listing_of(ledger, ObjectSelection(kind, name="", namespace="", output=output))
        for kind in kinds
    }
    if output.is_structured:
        items: dict[str, Any] = {
            plural(kind): list(listing.manifests) for kind, listing in listings.items()
        }
        show_value({"position": ledger.position, **items}, output)
        return
    for kind, listing in listings.items():
        if not listing.names:
            continue
        if not output.is_name:
            print_heading(f"\n{plural(kind).capitalize()}")
        show(listing, output)


def _show_address(ledger: Ledger, text: str, output: Output) -> None:
    address = str(require_address(text))
    revised = ledger.claims.get(address)
    if revised is None:
        raise NotFound(
            f"{address} was not allocated at this time",
            subject=address,
            remedy=f"`orbctl history {address}` shows all its allocations",
        )
    claim = revised.claim
    pod = f"{claim.namespace}/{claim.pod}"
    if output.is_structured:
        document = {"address": address, "pod": pod, "holder": claim.holder, "pool": claim.pool}
        show_value({"position": ledger.position, **document}, output)
    elif output.is_name:
        print(f"{ObjectKind.ADDRESS}/{address}")
    else:
        print(f"{address} was held by {pod} ({claim.holder}), pool {claim.pool}")
