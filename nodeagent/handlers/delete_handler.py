"""DEL: releases the addresses of one attachment, once, and no others.

A DEL succeeds when nothing is left to release (I7). A late DEL of an older sandbox releases nothing
(I3). Addresses are released only when it is certain that the Pod has ended, or that its fixed
address is no longer wanted: if the watch does not prove it, the API server is asked, and without
its answer the address is kept (I6).

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.allocation.releaser import Released, Releaser, ReleaseRequest
from core.domain.claims.claim_decisions import ReleaseDecision, decide_release
from core.domain.events import Cause
from core.domain.facts import PodReference
from core.domain.fixed.ipam_claims import pod_of_nic
from core.domain.fixed.validity import Validity
from core.domain.model import Attachment, Endpoint
from core.process import tracing
from nodeagent.cni_protocol.call import Call
from nodeagent.facts import FactsSource, Liveness
from nodeagent.request_runner import DEL_DEADLINE_S, RequestRunner
from nodeagent.telemetry.metrics import WorkCounts

RELEASE: Final = "ipam.release"

CONFIRMATIONS_MAX: Final = 3
"""Times that one DEL asks the API server, each after another writer changed the endpoint."""


class Deleted(NamedTuple):
    """What a DEL did; ``tries``: transactions, 1 if no other writer interfered."""

    released: Released
    tries: int


class DeleteRequest(NamedTuple):
    """One DEL, from any server. ``traceparent`` is the runtime's, "" for none."""

    pod: PodReference
    attachment: Attachment
    traceparent: str = ""


def read_delete_request(call: Call) -> DeleteRequest:
    """The request of a CNI DEL."""
    return DeleteRequest(call.pod, call.attachment, call.traceparent)


class DeleteHandler:
    """Handles DELs. ``add_deadline_s``: how long an ADD may take, which a DEL waits for."""

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
        # With a shorter deadline than its ADD, a DEL would leave what that ADD allocates.
        self.deadline_s = max(DEL_DEADLINE_S, add_deadline_s)

    async def handle_delete(self, request: DeleteRequest, arrived: float) -> Deleted:
        """Release the addresses of an attachment; ``arrived``: by ``time.perf_counter``.

        Raises StoreError, RequestError, LogError.
        """
        attachment, traceparent = request.attachment, request.traceparent
        with self._runner.measure(self.deadline_s, self._counts, arrived) as measured:
            await self._runner.wait_for_adds(attachment.container)
            with tracing.span(RELEASE) as span:
                traceparent = tracing.caller_traceparent(traceparent)
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
        cause = Cause(self._actor, attachment.container, "", traceparent)
        release = ReleaseRequest("deleted", evidence, cause)
        judge = _Judge(self._facts, request, migrating=pod.migrating)
        while True:
            released = await self._releaser.release(pod.endpoint_key, judge.decide, release)
            if not await judge.confirm_undecided():
                return Deleted(released, max(judge.tries, 1))


class _Judge:
    """Decides whether a DEL releases an endpoint.

    It decides by what the watch shows, if that is certain or keeps the addresses. Otherwise
    ``confirm_undecided`` asks the API server about the endpoint, and the answer decides (I6).
    """

    def __init__(self, facts: FactsSource, request: DeleteRequest, *, migrating: bool) -> None:
        self._facts = facts
        self._request = request
        self._migrating = migrating
        self._undecided: Endpoint | None = None
        self._answers: dict[Endpoint, tuple[Liveness, Validity | None]] = {}
        self.tries = 0

    def decide(self, endpoint: Endpoint) -> ReleaseDecision:
        """See ``Releaser.release``."""
        self.tries += 1
        self._undecided = None
        if_dead = self._decide(endpoint, Liveness(alive=False), None)
        if not if_dead.ends:
            return if_dead
        if endpoint in self._answers:
            return self._decide(endpoint, *self._answers[endpoint])
        liveness, validity = self._facts.liveness(self._request.pod), self._facts.wanted(endpoint)
        if validity is not None and validity.state == "valid":
            return self._decide(endpoint, Liveness(None), validity)
        if liveness is not None and validity is None:
            return self._decide(endpoint, liveness, None)
        if len(self._answers) >= CONFIRMATIONS_MAX:
            return ReleaseDecision(False, "it changed each time that the API server was asked")
        self._undecided = endpoint
        return ReleaseDecision(False, "the API server has to confirm it first", asks=True)

    async def confirm_undecided(self) -> bool:
        """Ask the API server about an undecided endpoint; True if ``decide`` can decide again."""
        endpoint = self._undecided
        if endpoint is None:
            return False
        liveness = await self._facts.confirm(self._request.pod)
        keeps = liveness.alive or liveness.doubt
        wanted = None if keeps else await self._facts.confirm_wanted(endpoint)
        self._answers[endpoint] = liveness, wanted
        return True

    def _decide(
        self, endpoint: Endpoint, liveness: Liveness, validity: Validity | None
    ) -> ReleaseDecision:
        if liveness.doubt:
            return ReleaseDecision(False, liveness.doubt)
        request = self._request
        return decide_release(
            endpoint,
            request.attachment,
            request.pod.uid,  # from the runtime; without a UID the container id is compared
            alive=liveness.alive,
            validity=validity,
            migrating=self._migrating,
        )
