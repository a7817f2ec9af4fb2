"""Endpoints that this process has claimed or read last, with the claims that a release would end.

A release that finds its endpoint here reads nothing. A missing or stale entry never proves that
there is nothing to release: the guards of the release name the revisions of the entry (invariant
I3), and after a failed guard the release reads etcd.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from core.allocation.endpoint_writer import EndpointState
from core.allocation.proposals import StoredEndpoint
from core.domain.events import Release
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint

ENDPOINTS_MAX: Final = 512
"""Endpoints in the cache; a node runs some hundred Pods. Beyond it the oldest is dropped."""


class EndpointCache:
    """The cache of one process."""

    def __init__(self) -> None:
        # OrderedDict: dropping the oldest key of a dict costs time in proportion to the keys
        # deleted before it.
        self._states: OrderedDict[EndpointKey, EndpointState | StoredEndpoint] = OrderedDict()

    def put(self, key: EndpointKey, state: EndpointState) -> None:
        """Keep this state of the endpoint in place of any older one."""
        self._put(key, state)

    def put_claimed(self, endpoint: Endpoint, revision: int) -> None:
        """Keep an endpoint that one transaction has made together with all of its claims."""
        self._put((endpoint.namespace, endpoint.name), StoredEndpoint(endpoint, revision))

    def pop(self, key: EndpointKey) -> EndpointState | None:
        """Remove and return the state of the endpoint; None: it is not in the cache."""
        state = self._states.pop(key, None)
        return _with_claims(state) if isinstance(state, StoredEndpoint) else state

    def _put(self, key: EndpointKey, state: EndpointState | StoredEndpoint) -> None:
        self._states[key] = state
        self._states.move_to_end(key)
        if len(self._states) > ENDPOINTS_MAX:
            self._states.popitem(last=False)


def _with_claims(stored: StoredEndpoint) -> EndpointState:
    """Add the claims that were made with the endpoint; done for a DEL, not for every ADD."""
    endpoint, revision = stored
    assert endpoint is not None, "it was claimed"
    claims = (
        Release(address, pool, endpoint.holder, revision) for address, pool in endpoint.addresses()
    )
    return EndpointState(stored, tuple(claims))
