"""What this process has claimed or read last: endpoints with the claims that a release would end.

A release that finds its endpoint here reads nothing. What is remembered may be old, and never
decides that nothing is to be released: the guards of the release name the revisions that were
remembered (I3), and a guard that fails makes the release read the truth.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from core.allocation.proposals import StoredEndpoint
from core.domain.events import Release
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint

ENDPOINTS_MAX: Final = 512
"""Endpoints remembered; a node runs some hundred Pods. Beyond it the oldest is forgotten."""


class KnownEndpoint(NamedTuple):
    """An endpoint at its revision, and its claims at theirs."""

    seen: StoredEndpoint
    releases: tuple[Release, ...]


class EndpointClaims:
    """The memory of one process."""

    def __init__(self) -> None:
        # Not a plain dict, whose first key is searched for behind all that were deleted.
        self._known: OrderedDict[EndpointKey, KnownEndpoint | StoredEndpoint] = OrderedDict()

    def put(self, key: EndpointKey, known: KnownEndpoint) -> None:
        """Remember this of the endpoint, in place of anything older."""
        self._remember(key, known)

    def claimed(self, endpoint: Endpoint, revision: int) -> None:
        """One transaction has made the endpoint and all of its claims."""
        self._remember(endpoint.key, StoredEndpoint(endpoint, revision))

    def take(self, key: EndpointKey) -> KnownEndpoint | None:
        """What is remembered of the endpoint, which is forgotten; None for nothing."""
        found = self._known.pop(key, None)
        return _whole(found) if isinstance(found, StoredEndpoint) else found

    def _remember(self, key: EndpointKey, known: KnownEndpoint | StoredEndpoint) -> None:
        self._known.pop(key, None)
        if len(self._known) >= ENDPOINTS_MAX:
            self._known.popitem(last=False)
        self._known[key] = known


def _whole(seen: StoredEndpoint) -> KnownEndpoint:
    """With the claims that were made together with it; worked out for a DEL, not for every ADD."""
    endpoint, revision = seen
    assert endpoint is not None, "it was claimed"
    return KnownEndpoint(
        seen,
        tuple(
            Release(address, pool, endpoint.holder, revision)
            for address, pool in endpoint.addresses()
        ),
    )
