"""A cache of selections: Pods of one template on one node select the same pools.

The key does not contain the Pod's name or UID. A new catalog of pools empties the cache. Failures
are not cached, because the error text contains the Pod's name. Selections of automatic pools are
not cached, because an automatic pool may belong to one Pod.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from core.domain.addresses.ip_address import Family
from core.domain.request_facts import RequestFacts
from core.domain.selection.pool_annotations import POD_SUBNET, POD_SUBNETS
from core.domain.selection.pool_catalog import PoolCatalog
from core.domain.selection.pool_selection import select
from core.domain.selection.selection_request import Selection, SelectionRequest, SelectionSettings

SELECTIONS_MAX: Final = 32
"""A full cache is emptied."""

NO_FAMILIES_KEPT: Final[frozenset[tuple[str, Family]]] = frozenset()

_AUTO_POOL_ANNOTATIONS: Final = frozenset((POD_SUBNETS, POD_SUBNET))


class SelectionCache:
    """Calls ``select`` with fixed settings and caches the results."""

    def __init__(self, settings: SelectionSettings) -> None:
        self._settings = settings
        self._catalog: PoolCatalog | None = None
        self._selections: dict[Hashable, Selection] = {}

    def select(
        self,
        request: SelectionRequest,
        facts: RequestFacts,
        catalog: PoolCatalog,
        kept_families: frozenset[tuple[str, Family]] = NO_FAMILIES_KEPT,
    ) -> Selection:
        """The result of ``select``, cached if possible. Raises the errors of ``select``."""
        if kept_families or not _AUTO_POOL_ANNOTATIONS.isdisjoint(facts.pod.annotations):
            return select(request, facts, catalog, self._settings, kept_families)
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
    pod, namespace, node = facts
    return (
        request,
        pod.namespace,
        pod.node,
        pod.owner,
        pod.known,
        _hashable(pod.labels),
        _hashable(pod.annotations),
        namespace.name,
        _hashable(namespace.labels),
        _hashable(namespace.annotations),
        namespace.known,
        node.name,
        _hashable(node.labels),
        node.known,
    )


def _hashable(texts: dict[str, str]) -> frozenset[tuple[str, str]] | None:
    return frozenset(texts.items()) if texts else None
