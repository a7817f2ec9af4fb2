"""DEL: releases the addresses of one attachment only.

A DEL that finds nothing to release succeeds (I7). A late DEL of an older sandbox releases nothing
(I3). Addresses are released only if the Pod has certainly ended; a fixed address only if the
replica or VM certainly no longer needs it. If watched objects do not prove this, the agent reads
the API server. Without an answer, the addresses are kept (I6). Invariants:
docs/contributing/architecture.md.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.allocation.releaser import Released, Releaser, ReleaseRequest
from core.domain.claims.claim_decisions import ReleaseDecision, decide_release
from core.domain.events import Cause
from core.domain.fixed.ipam_claims import pod_of_nic
from core.domain.fixed.owner_validity import Validity
from core.domain.model import Attachment, Endpoint
from core.domain.request_facts import PodReference
from core.process import tracing
from nodeagent.cni_protocol.cni_call import Call
from nodeagent.pod_facts import FactsSource, Liveness
from nodeagent.request_runner import DEL_DEADLINE_S, RequestRunner
from nodeagent.telemetry.metrics import WorkCounts

RELEASE: Final = "ipam.release"

CONFIRMATIONS_MAX: Final = 3
"""How often one DEL may ask the API server. A DEL asks again if the endpoint has changed."""


class Deleted(NamedTuple):
    """The result of a DEL. ``tries``: how often the DEL decided whether to release."""

    released: Released
    tries: int


class DeleteRequest(NamedTuple):
    """One DEL, by CNI or HTTP."""

    pod: PodReference
    attachment: Attachment
    traceparent: str = ""


def read_delete_request(call: Call) -> DeleteRequest:
    """The request of a CNI DEL."""
    return DeleteRequest(call.pod, call.attachment, call.traceparent)


class DeleteHandler:
    """The handler of DELs. A DEL waits for running ADDs of its container."""

    def __init__(
        self,
        runner: RequestRunner,
        counts: WorkCounts,
        releaser: Releaser,
        facts: FactsSource,
        actor: str,
        add_deadline_s: float = DEL_DEADLINE_S,
    ) -> None:
        self._runner = runner
        self._counts = counts
        self._releaser = releaser
        self._facts = facts
        self._actor = actor
        # A DEL that expired before its ADD would not release the addresses of the ADD.
        self.deadline_s = max(DEL_DEADLINE_S, add_deadline_s)

    async def handle_delete(self, request: DeleteRequest, arrived: float) -> Deleted:
        """Release the addresses of an attachment.

        ``arrived``: the arrival time of the request (``time.perf_counter``). Raises StoreError,
        RequestError, LogError.
        """
        attachment, traceparent = request.attachment, request.traceparent
        with self._runner.measure(self.deadline_s, self._counts, arrived) as measured:
            await self._runner.wait_for_adds(attachment.container)
            with tracing.span(RELEASE) as span:
                traceparent = tracing.event_traceparent(traceparent)
                deleted = await self._release(request, traceparent)
                measured.tries = deleted.tries
                if span is not None:
                    span.set_attribute("ipam.tries", deleted.tries)
                    span.set_attribute("ipam.addresses", list(deleted.released.addresses))
                return deleted

    async def _release(self, request: DeleteRequest, traceparent: str) -> Deleted:
        attachment = request.attachment
        pod = pod_of_nic(self._facts.facts(request.pod).pod, attachment.interface)
        evidence = f"CNI DEL of container {attachment.container}"
        cause = Cause(self._actor, attachment.container, traceparent=traceparent)
        release = ReleaseRequest("deleted", evidence, cause)
        policy = _ReleasePolicy(self._facts, request, migrating=pod.migrating)
        while True:
            released = await self._releaser.release(pod.endpoint_key, policy.decide, release)
            if not await policy.confirm_undecided():
                return Deleted(released, max(policy.tries, 1))


class _ReleasePolicy:
    """Decides whether a DEL releases an endpoint.

    In doubt, ``decide`` keeps the endpoint. Then ``confirm_undecided`` asks the API server, and
    ``decide`` runs again (I6).
    """

    def __init__(self, facts: FactsSource, request: DeleteRequest, *, migrating: bool) -> None:
        self._facts = facts
        self._request = request
        self._migrating = migrating
        self._undecided: Endpoint | None = None
        self._answers: dict[Endpoint, tuple[Liveness, Validity | None]] = {}
        self.tries = 0

    def decide(self, endpoint: Endpoint) -> ReleaseDecision:
        self.tries += 1
        self._undecided = None
        decision_if_ended = self._decide(endpoint, Liveness(alive=False), None)
        if not decision_if_ended.ends:
            return decision_if_ended
        if endpoint in self._answers:
            return self._decide(endpoint, *self._answers[endpoint])
        liveness = self._facts.liveness(self._request.pod)
        validity = self._facts.endpoint_validity(endpoint)
        if validity is not None and validity.state == "valid":
            return self._decide(endpoint, Liveness(alive=None), validity)
        if liveness is not None and validity is None:
            return self._decide(endpoint, liveness, None)
        if len(self._answers) >= CONFIRMATIONS_MAX:
            why = "the endpoint changed each time that the API server was asked"
            return ReleaseDecision(ends=False, why=why)
        self._undecided = endpoint
        why = "the API server has to confirm first that the Pod has ended"
        return ReleaseDecision(ends=False, why=why, needs_check=True)

    async def confirm_undecided(self) -> bool:
        """True if ``decide`` must run again."""
        endpoint = self._undecided
        if endpoint is None:
            return False
        liveness = await self._facts.confirm_liveness(self._request.pod)
        validity = None
        if not (liveness.alive or liveness.doubt):
            validity = await self._facts.confirm_endpoint(endpoint)
        self._answers[endpoint] = liveness, validity
        return True

    def _decide(
        self, endpoint: Endpoint, liveness: Liveness, validity: Validity | None
    ) -> ReleaseDecision:
        if liveness.doubt:  # the API server did not answer
            return ReleaseDecision(ends=False, why=liveness.doubt)
        request = self._request
        return decide_release(
            endpoint,
            request.attachment,
            request.pod.uid,  # from the runtime; may be empty
            alive=liveness.alive,
            validity=validity,
            migrating=self._migrating,
        )
