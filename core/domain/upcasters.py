"""Upcasters: convert the bodies of old event versions to the current one.

An event is stored with its wire name and schema version. When a type changes in a way that a
trailing default cannot express, its version in ``VERSIONS`` goes up and the function from the old
body (plain msgpack data: lists, maps, texts) to the new one is added to ``UPCASTERS``. Recorded
logs of every version are test fixtures. An upcaster is never removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core.domain.events import EVENT_TYPES, SCHEMA_VERSION

VERSIONS: dict[str, int] = dict.fromkeys(EVENT_TYPES, SCHEMA_VERSION)
"""Wire name -> the current schema version."""

Upcaster = Callable[[list[object]], list[object]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(wire name, version) -> body of that version -> body of the next one."""


def upcast(
    name: str,
    version: int,
    body: list[object],
    *,
    today: Mapping[str, int] = VERSIONS,
    chain: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
) -> list[object]:
    """The body in the current version. Raises KeyError with the missing step."""
    while version < today[name]:
        body = chain[name, version](body)
        version += 1
    return body
