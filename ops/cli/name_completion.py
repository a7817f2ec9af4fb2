"""Reads names of objects for shell completion."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

import typer

from core.domain.evolution import Ledger
from core.errors import OrbweaverError
from core.eventstore.keys import Keys
from core.eventstore.kv import Get
from core.eventstore.state_reader import read_configuration
from ops.cli.command_group import INHERITED_OPTIONS
from ops.cli.kinds import KIND_OF_WORD, RECORD_KINDS, ObjectKind

if TYPE_CHECKING:
    from ops.settings import ClusterSettings

COMPLETION_S_MAX: Final = 1.0
"""Limit in seconds; after it, no names are offered."""

NAMES_MAX: Final = 2_000


def complete_kind(incomplete: str) -> list[str]:
    """Completions of the name of a kind."""
    return [word for word in KIND_OF_WORD if word.startswith(incomplete)]


def complete_objects(context: typer.Context, incomplete: str) -> list[str]:
    """Completions of ``KIND NAME...`` and ``KIND/NAME...``."""
    words = context.params.get("resources") or ()
    kind, slash, start = incomplete.rpartition("/")
    if slash:
        return [f"{kind}/{name}" for name in _names(context, kind) if name.startswith(start)]
    if not words:
        *kinds, last = incomplete.split(",")
        return [",".join((*kinds, word)) for word in complete_kind(last)]
    return [name for name in _names(context, words[0]) if name.startswith(incomplete)]


def complete_names(context: typer.Context, incomplete: str) -> list[str]:
    """Completions of the names of objects; the argument ``kind`` is their kind."""
    names = _names(context, context.params.get("kind") or "")
    return [name for name in names if name.startswith(incomplete)]


def _names(context: typer.Context, word: str) -> list[str]:
    """The names of a kind's objects; none if etcd cannot be read in time."""
    kind = KIND_OF_WORD.get(word.lower())
    if kind is None:
        return []
    global_options: dict[str, Any] = context.find_root().params
    options = {
        name: text
        for name, text in {**global_options, **context.meta.get(INHERITED_OPTIONS, {})}.items()
        if isinstance(text, str)
    }
    namespace = context.params.get("namespace") or "default"
    from ops.settings import cluster_settings  # noqa: PLC0415  # slow to import

    try:
        settings = cluster_settings(os.environ, options)
        return asyncio.run(asyncio.wait_for(_read(settings, kind, namespace), COMPLETION_S_MAX))
    except (OrbweaverError, OSError, TimeoutError):
        return []


async def _read(settings: ClusterSettings, kind: ObjectKind, namespace: str) -> list[str]:
    from core.eventstore.etcd import EtcdStore  # noqa: PLC0415  # slow to import

    store, keys = EtcdStore(settings.etcd), Keys(settings.cluster)
    try:
        if kind in (ObjectKind.ENDPOINT, ObjectKind.POD):
            start = keys.prefix("endpoint", namespace)
            get = Get(*keys.range_of("endpoint", namespace), limit=NAMES_MAX, keys_only=True)
            kvs = (await store.read([get])).ranges[0].kvs
            return [kv.key.removeprefix(start).decode() for kv in kvs]
        ledger = Ledger()
        await read_configuration(store, keys, ledger)
        return sorted(_names_in(ledger, kind, namespace))[:NAMES_MAX]
    finally:
        await store.close()


def _names_in(ledger: Ledger, kind: ObjectKind, namespace: str) -> list[str]:
    match kind:
        case ObjectKind.POOL:
            return list(ledger.pools)
        case ObjectKind.SUBNET:
            return list(ledger.subnets)
        case ObjectKind.RESERVATION:
            return list(ledger.reservations)
        case ObjectKind.QUARANTINE | ObjectKind.ADDRESS:
            return list(ledger.quarantine)  # without claimed addresses, which may be too many
        case _:
            record_kind = RECORD_KINDS.get(kind)
            return [
                record.name
                for record in ledger.records.values()
                if record.kind == record_kind and record.namespace in ("", namespace)
            ]
