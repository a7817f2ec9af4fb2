"""GC: release what the runtime no longer knows, on evidence only (CNI 1.1.0; I6).

Looked at: NICs of endpoints of this node and of the network that the call names, attached for a
container that is not in the list of valid ones, and what that proves is in
``missing_attachments``. Releases are fenced as a DEL's are (I3). It goes on after errors and
reports them at the end, and never touches another node or network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple

from core.allocation.releaser import Releaser, ReleaseRequest
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.events import Cause
from core.domain.model import Endpoint, Nic
from core.errors import BadInput, LogCorrupt, OrbweaverError
from core.eventstore.keys import Keys
from core.eventstore.kinds import ENDPOINTS
from core.eventstore.kv import Get, KeyValueStore
from nodeagent.cni_protocol.call import Call
from nodeagent.facts import FactsSource
from nodeagent.handlers.missing_attachments import (
    MissingAttachments,
    Sandbox,
    incomplete,
    is_netns_gone,
    valid_attachments,
)

PAGE_ENDPOINTS: Final = 2_000
ENDPOINTS_MAX: Final = 1_000_000
"""Endpoints of the cluster that one call reads; beyond it the call fails by name."""


class EndpointGcResult(NamedTuple):
    """What one GC did: the endpoints released, and how many attachments were not in the list."""

    released: tuple[str, ...]
    missing: int


class GcHandler:
    """Does GCs."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        releaser: Releaser,
        facts: FactsSource,
        node: str,
        actor: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._keys = keys
        self._releaser = releaser
        self._facts = facts
        self._node = node
        self._actor = actor
        self._missing = MissingAttachments(monotonic)

    async def collect(self, call: Call) -> EndpointGcResult:
        """Raises CniFailure when the list is missing or something could not be released."""
        valid = valid_attachments(call.conf)
        network = call.conf.name
        look = self._missing.look(network)
        released: list[str] = []
        errors: list[str] = []
        async for endpoint in self._endpoints(errors):
            suspects = _suspects(endpoint, network, valid)
            evidence = [look.evidence(_sandbox(nic), nic.netns) for nic in suspects]
            if not any(evidence):
                continue
            gone = [nic for nic, words in zip(suspects, evidence, strict=True) if words]
            order = self._order(endpoint, gone, "; ".join(filter(None, evidence)), call)
            try:
                if await self._release(endpoint, order):
                    released.append("/".join(endpoint.key))
            except OrbweaverError as error:
                errors.append(f"{'/'.join(endpoint.key)}: {error}")
        look.remember()
        if errors:
            raise incomplete("endpoints", errors, len(released))
        return EndpointGcResult(tuple(released), len(look.missed))

    async def _endpoints(self, errors: list[str]) -> AsyncIterator[Endpoint]:
        """This node's endpoints, page by page at one revision, so that memory stays bounded.

        ``errors`` receives those that cannot be read.
        """
        start, end = self._keys.room("endpoint")
        node = self._node.encode()
        revision, seen = 0, 0
        while True:
            result = await self._store.read([Get(start, end, PAGE_ENDPOINTS)], revision=revision)
            revision = result.revision
            page = result.ranges[0]
            seen += len(page.kvs)
            if seen > ENDPOINTS_MAX:
                raise BadInput(f"more than {ENDPOINTS_MAX} endpoints", subject="endpoints")
            for kv in page.kvs:
                # Most endpoints are of other nodes, and those need no decoding.
                if node not in kv.value:
                    continue
                try:
                    endpoint = ENDPOINTS.decode(self._keys, kv.key, kv.value)
                except LogCorrupt as error:
                    errors.append(str(error))
                    continue
                if endpoint.node == self._node:
                    yield endpoint
            if not page.more:
                return
            start = page.kvs[-1].key + b"\0"

    def _order(
        self, endpoint: Endpoint, gone: list[Nic], evidence: str, call: Call
    ) -> ReleaseRequest:
        """Release the NICs that are gone; keep what is attached elsewhere, and its open NICs."""
        namespaces = {nic.netns for nic in gone if is_netns_gone(nic.netns)}
        keep = tuple(
            nic for nic in endpoint.nics if nic not in gone and nic.netns not in namespaces
        )
        if not any(nic.container for nic in keep):
            keep = ()
        cause = Cause(self._actor, gone[0].container, "", call.traceparent)
        return ReleaseRequest("gc", evidence, cause, keep)

    async def _release(self, endpoint: Endpoint, order: ReleaseRequest) -> bool:
        """Release, if the endpoint still is what the evidence is about."""
        wanted = await self._facts.confirm_wanted(endpoint)
        evidence = "" if wanted is None else wanted.why

        def decide(found: Endpoint) -> ReleaseDecision:
            if wanted is not None and wanted.keeps:
                return ReleaseDecision(False, f"fixed: {wanted.why}")
            if found != endpoint:
                return ReleaseDecision(False, "it changed")
            return ReleaseDecision(True, "the runtime no longer knows it", evidence=evidence)

        released = await self._releaser.release(endpoint.key, decide, order)
        return bool(released.addresses)


def _suspects(endpoint: Endpoint, network: str, valid: frozenset[Sandbox]) -> list[Nic]:
    """The NICs of this network that were attached for a container and are not valid any more."""
    return [
        nic
        for nic in endpoint.nics
        if nic.container and nic.network == network and _sandbox(nic) not in valid
    ]


def _sandbox(nic: Nic) -> Sandbox:
    return nic.container, nic.interface
