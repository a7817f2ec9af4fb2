"""GC: releases addresses of attachments that the runtime no longer lists (CNI 1.1.0; I6).

A NIC of this node and of this network is a suspect if the GC does not list it.
``missing_attachments`` decides whether a suspect may be released. An endpoint that changes during
the GC is kept, so a GC never releases newer claims (I3). GC continues after errors. Invariants:
docs/contributing/architecture.md.
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
from core.eventstore.kinds import ENDPOINT_KEYS
from core.eventstore.kv import Get, KeyValueStore
from core.process import tracing
from nodeagent.cni_protocol.cni_call import Call
from nodeagent.handlers.missing_attachments import (
    AttachmentId,
    MissingAttachments,
    gc_failure,
    is_netns_gone,
    valid_attachments,
)
from nodeagent.pod_facts import FactsSource

PAGE_ENDPOINTS: Final = 2_000
ENDPOINTS_MAX: Final = 1_000_000
"""Endpoints that one GC reads. In a cluster with more endpoints, every GC fails."""


class EndpointGcResult(NamedTuple):
    """The result of a GC. ``released``: the endpoints with released NICs.

    ``missing``: how many NICs the runtime did not list, including the released ones.
    """

    released: tuple[str, ...]
    missing: int


class GcHandler:
    """Handles GCs."""

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

    async def handle_gc(self, call: Call) -> EndpointGcResult:
        """Release NICs that the runtime does not list, if there is evidence (I6).

        Raises CniFailure if the list of valid attachments is missing, or with all errors.
        """
        valid_ids = valid_attachments(call.conf)
        network = call.conf.name
        gc_pass = self._missing.start(network)
        released: list[str] = []
        errors: list[str] = []
        async for endpoint in self._endpoints(errors):
            suspects = _suspects(endpoint, network, valid_ids)
            evidence = [gc_pass.evidence(_attachment_id(nic), nic.netns) for nic in suspects]
            if not any(evidence):
                continue
            gone_nics = [nic for nic, proof in zip(suspects, evidence, strict=True) if proof]
            release = self._release_request(
                endpoint, gone_nics, "; ".join(filter(None, evidence)), call
            )
            try:
                with tracing.child_span("ipam.release", attributes=_span_attributes(endpoint)):
                    is_released = await self._release(endpoint, release)
                if is_released:
                    released.append("/".join(endpoint.key))
            except OrbweaverError as error:
                errors.append(f"{'/'.join(endpoint.key)}: {error}")
        gc_pass.end()
        if errors:
            raise gc_failure("endpoint", errors, len(released))
        return EndpointGcResult(tuple(released), len(gc_pass.missing_since))

    async def _endpoints(self, errors: list[str]) -> AsyncIterator[Endpoint]:
        """This node's endpoints, read in pages at one revision to limit memory.

        Adds a text to ``errors`` for each unreadable endpoint.
        """
        start, end = self._keys.range_of("endpoint")
        node = self._node.encode()
        revision, count = 0, 0
        while True:
            result = await self._store.read([Get(start, end, PAGE_ENDPOINTS)], revision=revision)
            revision = result.revision
            page = result.ranges[0]
            count += len(page.kvs)
            if count > ENDPOINTS_MAX:
                text = f"the cluster has more than {ENDPOINTS_MAX} endpoints, the limit of a GC"
                remedy = "do nothing: the controllers' scans release leaked addresses"
                raise BadInput(text, subject="endpoints", remedy=remedy)
            for kv in page.kvs:
                # This test costs less than decoding the endpoints of other nodes.
                if node not in kv.value:
                    continue
                try:
                    endpoint = ENDPOINT_KEYS.decode(self._keys, kv.key, kv.value)
                except LogCorrupt as error:
                    errors.append(str(error))
                    continue
                if endpoint.node == self._node:
                    yield endpoint
            if not page.more:
                return
            start = page.kvs[-1].key + b"\0"

    def _release_request(
        self, endpoint: Endpoint, gone_nics: list[Nic], evidence: str, call: Call
    ) -> ReleaseRequest:
        """A request to release ``gone_nics``, and all NICs in their deleted namespaces."""
        namespaces = {nic.netns for nic in gone_nics if is_netns_gone(nic.netns)}
        keep = tuple(
            nic for nic in endpoint.nics if nic not in gone_nics and nic.netns not in namespaces
        )
        # A NIC without a container has had no ADD. If only such NICs remain, all are released.
        if not any(nic.container for nic in keep):
            keep = ()
        trace = tracing.event_traceparent(call.traceparent)
        cause = Cause(self._actor, gone_nics[0].container, traceparent=trace)
        return ReleaseRequest("gc", evidence, cause, keep)

    async def _release(self, endpoint: Endpoint, release: ReleaseRequest) -> bool:
        """Returns False if the endpoint has changed, or its fixed addresses are still needed."""
        validity = await self._facts.confirm_endpoint(endpoint)
        evidence = "" if validity is None else validity.why

        def decide(current: Endpoint) -> ReleaseDecision:
            if validity is not None and validity.keeps:
                return ReleaseDecision(ends=False, why=f"fixed: {validity.why}")
            if current != endpoint:
                return ReleaseDecision(ends=False, why="the endpoint changed during the GC")
            why = "the runtime no longer lists its attachments"
            return ReleaseDecision(ends=True, why=why, evidence=evidence)

        released = await self._releaser.release(endpoint.key, decide, release)
        return bool(released.addresses)


def _span_attributes(endpoint: Endpoint) -> tracing.Attributes:
    namespace, name = endpoint.key
    return {"k8s.namespace.name": namespace, "k8s.pod.name": name, "k8s.pod.uid": endpoint.uid}


def _suspects(endpoint: Endpoint, network: str, valid_ids: frozenset[AttachmentId]) -> list[Nic]:
    return [
        nic
        for nic in endpoint.nics
        if nic.container and nic.network == network and _attachment_id(nic) not in valid_ids
    ]


def _attachment_id(nic: Nic) -> AttachmentId:
    return nic.container, nic.interface
