"""``orbctl get``: objects as they are now.

A record is a copy of a Kubernetes object in etcd (``kinds.RECORD_KINDS``).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from core.domain.configuration.configuration_state import pool_addresses
from core.domain.evolution import Ledger
from core.errors import BadInput, LogError, NotFound
from core.eventstore.state_reader import STATE_KINDS, read_configuration, read_ledger
from ops.cli.action_runner import perform
from ops.cli.commands.forecast import times_until_full
from ops.cli.exit_codes import Exit, report, report_unreadable_keys
from ops.cli.formats import Format, Output
from ops.cli.global_options import globals_of
from ops.cli.kinds import RECORD_KINDS, ObjectKind, kind_of, plural, split_name
from ops.cli.listings import pool_listing
from ops.cli.name_completion import complete_objects
from ops.cli.object_selection import ObjectSelection, empty_message, listing_of
from ops.cli.output import MANIFEST_LIST, ObjectListing, print_names, show, show_table, show_value
from ops.cli.pool_usage import count_pools
from ops.cli.selectors import Selectors, read_selectors
from ops.cli.workloads import Kubeconfig, read_applications

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

LISTED_KINDS: Final = (
    ObjectKind.POOL,
    ObjectKind.SUBNET,
    ObjectKind.RESERVATION,
    ObjectKind.ENDPOINT,
    ObjectKind.QUARANTINE,
    ObjectKind.RECORD,
    *RECORD_KINDS,
    ObjectKind.APPLICATION,
)
"""Kinds that a command can list; ``record`` stands for all ``RECORD_KINDS``."""

WATCH_PAUSE_S: Final = 0.5
"""Pause between two reads of a watch; changes during the pause are shown together."""


class GetQuery(NamedTuple):
    """The objects to show, and the output.

    An empty list in ``names`` selects all objects of the kind. The keys of ``times_until_full``
    are pool names.
    """

    names: dict[ObjectKind, list[str]]
    namespace: str
    selectors: Selectors
    output: Output
    kubeconfig: str
    times_until_full: Mapping[str, str] = {}


def get(
    context: typer.Context,
    resources: Annotated[
        list[str],
        typer.Argument(
            metavar="KIND [NAME]",
            help="pools, subnets, reservations, endpoints, quarantine, records, applications,"
            " or a kind of record: pods, nodes, deployments, ...",
            autocompletion=complete_objects,
        ),
    ],
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", help="namespace of endpoints, Pods and applications")
    ] = "default",
    all_namespaces: Annotated[
        bool,
        typer.Option("-A", "--all-namespaces", help="show the objects of all namespaces"),
    ] = False,
    selector: Annotated[
        str, typer.Option("-l", "--selector", help="only objects with these labels")
    ] = "",
    field_selector: Annotated[
        str, typer.Option(help="only objects with these fields, such as spec.ipVersion=4")
    ] = "",
    sort_by: Annotated[str, typer.Option(help="sort by this JSONPath of the manifest")] = "",
    watch: Annotated[
        bool,
        typer.Option("-w", "--watch", help="keep showing objects that change, until interrupted"),
    ] = False,
    kubeconfig: Kubeconfig = "",
) -> None:
    r"""Show objects in a table or as manifests.

    Examples:
      orbctl get pools
      orbctl get pools,subnets -o wide
      orbctl get pool/lan subnet/office -o yaml
      orbctl get endpoints -A -l app=web
      orbctl get pools --field-selector spec.ipVersion=6 --sort-by .status.allocatedIPCount
      orbctl get pools -o custom-columns=NAME:.metadata.name,SUBNET:.spec.subnet
      orbctl get pools -o jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}'
      orbctl get pools --watch
    """
    query = GetQuery(
        read_resources(resources),
        "" if all_namespaces else namespace,
        read_selectors(selector, field_selector, sort_by),
        globals_of(context).output,
        kubeconfig,
    )

    async def action(session: ClusterSession) -> Exit:
        query_with_forecasts = await _with_forecasts(session, query)
        ledger, listings, missing = await _read(session, query_with_forecasts, reports_empty=True)
        if query.output.is_structured and query.output.format is not Format.CUSTOM_COLUMNS:
            _show_manifests(query, list(listings.values()))
        else:
            _show_tables(query, listings)
        worst = max((report(error) for error in missing), default=Exit.OK)
        report_unreadable_keys(ledger)
        if watch:
            await _watch(session, query_with_forecasts, listings, ledger.position)
        return worst

    perform(context, action)


async def _with_forecasts(session: ClusterSession, query: GetQuery) -> GetQuery:
    if ObjectKind.POOL not in query.names or not query.output.is_wide:
        return query
    try:
        return query._replace(times_until_full=await times_until_full(session))
    except LogError:  # `orbctl verify` reports the damage
        return query


def read_resources(words: Sequence[str]) -> dict[ObjectKind, list[str]]:
    """Parse ``pools,subnets``, ``pool lan office`` or ``pool/lan subnet/office``.

    Raises BadInput.
    """
    first, *rest = words
    if "/" not in first:
        kinds = [kind_of(word, LISTED_KINDS) for word in first.split(",") if word]
        if len(kinds) > 1 and rest:
            raise BadInput(
                "names cannot follow several kinds",
                subject="name",
                remedy="write them as KIND/NAME, such as pool/lan subnet/office",
            )
        return dict.fromkeys(kinds, rest)
    names: dict[ObjectKind, list[str]] = {}
    for word in words:
        kind, slash, name = word.partition("/")
        if not (slash and name):
            raise BadInput(
                f"{word[:64]!r} is not KIND/NAME",
                subject="name",
                remedy="write every object as KIND/NAME, such as pool/lan",
            )
        names.setdefault(kind_of(kind, LISTED_KINDS), []).append(name)
    return names


async def _read(
    session: ClusterSession, query: GetQuery, *, reports_empty: bool
) -> tuple[Ledger, dict[ObjectKind, ObjectListing], list[NotFound]]:
    """The state, a listing of each kind, and the errors about objects that do not exist.

    ``reports_empty``: print a message for each empty table or list of names.
    """
    reports_empty = reports_empty and not query.output.is_structured
    needs_manifests = query.output.is_structured or not query.selectors.is_empty
    kinds = query.names.keys()
    if kinds & {ObjectKind.ENDPOINT, ObjectKind.APPLICATION} or (
        ObjectKind.POOL in kinds and needs_manifests
    ):
        ledger = await read_ledger(session.store, session.keys)
    else:
        ledger = Ledger()
        await read_configuration(session.store, session.keys, ledger)
    applications = None
    if ObjectKind.APPLICATION in kinds:
        applications = await read_applications(query.kubeconfig, ledger)
    listings, missing = {}, []
    for kind, names in query.names.items():
        parts = []
        for name in names or [""]:
            namespace, plain_name = split_name(name, query.namespace)
            selection = ObjectSelection(
                kind,
                plain_name,
                namespace,
                query.output,
                needs_manifests=needs_manifests,
                times_until_full=query.times_until_full,
            )
            try:
                if kind is ObjectKind.POOL and not needs_manifests:
                    parts.append(await _counted_pools(session, ledger, selection))
                else:
                    parts.append(listing_of(ledger, selection, applications))
            except NotFound as error:
                missing.append(error)
                continue
            if reports_empty and not parts[-1].names:
                typer.echo(empty_message(ledger, selection, applications), err=True)
        if parts:
            listing = _join(parts)
            selected = listing if query.selectors.is_empty else query.selectors.apply(listing)
            listings[kind] = selected
            if reports_empty and listing.names and not selected.names:
                typer.echo(f"the selectors match none of the {plural(kind)}", err=True)
    return ledger, listings, missing


async def _counted_pools(
    session: ClusterSession, ledger: Ledger, selection: ObjectSelection
) -> ObjectListing:
    """The table of pools. etcd counts the claims, so no claim is read. Raises NotFound."""
    pools = [pool for name, pool in sorted(ledger.pools.items()) if selection.selects(name)]
    if selection.name and not pools:
        raise selection.not_found()
    counts = await count_pools(session.store, session.keys, ledger, pools)
    totals = {pool.name: pool_addresses(pool).clamped_size for pool in pools}
    return pool_listing(pools, counts, totals, times_until_full=selection.times_until_full)


def _join(parts: Sequence[ObjectListing]) -> ObjectListing:
    first = parts[0]
    return ObjectListing(
        first.columns,
        [row for part in parts for row in part.rows],
        [name for part in parts for name in part.names],
        [manifest for part in parts for manifest in part.manifests],
    )


def _show_manifests(query: GetQuery, listings: Sequence[ObjectListing]) -> None:
    manifests = [manifest for listing in listings for manifest in listing.manifests]
    names_by_kind = list(query.names.values())
    is_one_object = len(names_by_kind) == 1 and len(names_by_kind[0]) == 1
    if not is_one_object:
        show_value({**MANIFEST_LIST, "items": manifests}, query.output)
    elif manifests:  # otherwise the caller reports that the object was not found
        show_value(manifests[0], query.output)


def _show_tables(query: GetQuery, listings: dict[ObjectKind, ObjectListing]) -> None:
    shown = [listing for listing in listings.values() if listing.names]
    for index, listing in enumerate(shown):
        if index and not query.output.is_name:
            print()
        show(listing, query.output)


async def _watch(
    session: ClusterSession,
    query: GetQuery,
    before: dict[ObjectKind, ObjectListing],
    shown_revision: int,
) -> None:
    """Show rows that change after the etcd revision ``shown_revision``, until interrupted."""
    ranges = [kind.range(session.keys) for kind in STATE_KINDS]
    # A table without rows is not shown, so it has no header yet.
    kinds_with_header = {kind for kind, listing in before.items() if listing.names}
    async for batch in session.store.watch(ranges, after=shown_revision):
        if not batch.changes or batch.revision <= shown_revision:
            continue
        ledger, after, _ = await _read(session, query, reports_empty=False)
        shown_revision = ledger.position  # the revision of the read
        for kind, listing in after.items():
            header = kind not in kinds_with_header
            _show_changed(query.output, before.get(kind), listing, header=header)
            if listing.names:
                kinds_with_header.add(kind)
        before = after
        await asyncio.sleep(WATCH_PAUSE_S)


def _show_changed(
    output: Output, before: ObjectListing | None, listing: ObjectListing, *, header: bool
) -> None:
    rows_before = set(map(tuple, before.rows)) if before else set()
    changed = [index for index, row in enumerate(listing.rows) if tuple(row) not in rows_before]
    if not changed:
        return
    if output.is_name:
        print_names(listing.names[index] for index in changed)
    elif output.is_structured and output.format is not Format.CUSTOM_COLUMNS:
        for index in changed:
            show_value(listing.manifests[index], output)
    elif output.format is Format.CUSTOM_COLUMNS:
        show(listing._replace(manifests=[listing.manifests[index] for index in changed]), output)
    else:
        rows = [listing.rows[index] for index in changed]
        show_table(listing.columns, rows, output, header=header)
    sys.stdout.flush()
