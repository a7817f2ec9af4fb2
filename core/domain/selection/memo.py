"""Selections that are remembered: Pods of one template on one node select the same pools.

A selection depends on the request, on the facts without the names of one Pod, on the pools and on
the settings. Those of one catalog are remembered by all of these; a new catalog forgets them.
Failures are not remembered, because they name the Pod, nor are selections of automatic pools, which
may belong to one Pod alone.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from core.domain.addresses.ip_address import Family
from core.domain.facts import RequestFacts
from core.domain.selection.annotations import POD_SUBNET, POD_SUBNETS
from core.domain.selection.catalog import PoolCatalog
from core.domain.selection.request import Selection, SelectionRequest, SelectionSettings
from core.domain.selection.select import select

SELECTIONS_MAX: Final = 32
"""Selections remembered at once; at the limit all of them are forgotten."""

NONE_SETTLED: Final[frozenset[tuple[str, Family]]] = frozenset()

_OF_APPLICATIONS: Final = frozenset((POD_SUBNETS, POD_SUBNET))


class SelectionMemo:
    """``select`` with a memory; for one value of the settings."""

    def __init__(self, settings: SelectionSettings) -> None:
        self._settings = settings
        self._catalog: PoolCatalog | None = None
        self._selections: dict[Hashable, Selection] = {}

    def select(
        self,
        request: SelectionRequest,
        facts: RequestFacts,
        catalog: PoolCatalog,
        settled: frozenset[tuple[str, Family]] = NONE_SETTLED,
    ) -> Selection:
        """The result of ``select``, remembered. Raises its errors."""
        if settled or not _OF_APPLICATIONS.isdisjoint(facts.pod.annotations):
            return select(request, facts, catalog, self._settings, settled)
        if catalog is not self._catalog or len(self._selections) >= SELECTIONS_MAX:
            self._catalog = catalog
            self._selections = {}
        key = _key(request, facts)
        selection = self._selections.get(key)
        if selection is None:
            selection = select(request, facts, catalog, self._settings)
            self._selections[key] = selection
        return selection


def _key(request: SelectionRequest, facts: RequestFacts) -> Hashable:
    """All that a selection depends on beside pools and settings."""
    pod, namespace, node = facts
    return (
        request,
        pod.namespace,
        pod.node,
        pod.owner,
        pod.known,
        _members(pod.labels),
        _members(pod.annotations),
        namespace.name,
        _members(namespace.labels),
        _members(namespace.annotations),
        namespace.known,
        node.name,
        _members(node.labels),
        node.known,
    )


def _members(texts: dict[str, str]) -> frozenset[tuple[str, str]] | None:
    return frozenset(texts.items()) if texts else None
