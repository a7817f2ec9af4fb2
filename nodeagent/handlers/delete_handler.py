"""DEL: release what an attachment held, once, and only what it held.

Promise: nothing left to do is success (I7); a late DEL of an older sandbox ends nothing (I3). That
a Pod has ended, or that its fixed address is not wanted any more, is believed only when it is
certain: what a watch lacks is asked of the source of truth, and a doubt keeps the address (I6).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.allocation.releaser import Released, Releaser, ReleaseRequest
from core.domain.claims.claim_decisions import ReleaseDecision, decide_release
from core.domain.events import Cause
from core.domain.facts import PodReference
from core.domain.fixed.validity import Validity
from core.domain.model import Attachment, Endpoint
from nodeagent.cni_protocol.call import Call
from nodeagent.facts import FactsSource, Liveness

ASKED_MAX: Final = 3
"""Endpoints of one DEL that the source of truth is asked about, each after a change by another."""


class Deleted(NamedTuple):
    """What a DEL did; ``tries`` 1 if no race was lost."""

    released: Released
    tries: int


class DeleteRequest(NamedTuple):
    """One DEL, from whichever door."""

    pod: PodReference
    attachment: Attachment
    traceparent: str = ""


def read_delete_request(call: Call) -> DeleteRequest:
    """The order of a CNI call."""
    return DeleteRequest(call.pod, call.attachment, call.traceparent)


class DeleteHandler:
    """Does DELs."""

    def __init__(self, releaser: Releaser, facts: FactsSource, actor: str) -> None:
        self._releaser = releaser
        self._facts = facts
        self._actor = actor

    async def delete(self, order: DeleteRequest) -> Deleted:
        """Raises StoreError, LogError."""
        pod = self._facts.facts(order.pod).pod
        attachment = order.attachment
        evidence = f"CNI DEL of container {attachment.container}"
        cause = Cause(self._actor, attachment.container, "", order.traceparent)
        release = ReleaseRequest("deleted", evidence, cause)
        judge = _Judge(self._facts, order, migrating=pod.migrating)
        while True:
            released = await self._releaser.release(pod.endpoint_key, judge.decide, release)
            if not await judge.answer_open_question():
                return Deleted(released, max(judge.tries, 1))


class _Judge:
    """Judges the endpoint of one DEL.

    By what is known, if that keeps it or is certain; else ``answer_open_question`` asks the source
    of truth about the endpoint that was there, and that one is judged by the answer (I6).
    """

    def __init__(self, facts: FactsSource, order: DeleteRequest, *, migrating: bool) -> None:
        self._facts = facts
        self._order = order
        self._migrating = migrating
        self._open: Endpoint | None = None
        self._answers: dict[Endpoint, tuple[Liveness, Validity | None]] = {}
        self.tries = 0

    def decide(self, endpoint: Endpoint) -> ReleaseDecision:
        """See ``Releaser.release``."""
        self.tries += 1
        self._open = None
        late = self._decided(endpoint, Liveness(alive=False), None)
        if not late.ends:
            return late
        if endpoint in self._answers:
            return self._decided(endpoint, *self._answers[endpoint])
        liveness, wanted = self._facts.liveness(self._order.pod), self._facts.wanted(endpoint)
        if wanted is not None and wanted.state == "valid":
            return self._decided(endpoint, Liveness(None), wanted)
        if liveness is not None and wanted is None:
            return self._decided(endpoint, liveness, None)
        if len(self._answers) >= ASKED_MAX:
            return ReleaseDecision(False, "it changed each time that the API server was asked")
        self._open = endpoint
        return ReleaseDecision(False, "the source of truth has to be asked", asks=True)

    async def answer_open_question(self) -> bool:
        """Ask, if something has to be asked: then the endpoint can be judged again."""
        endpoint = self._open
        if endpoint is None:
            return False
        liveness = await self._facts.confirm(self._order.pod)
        keeps = liveness.alive or liveness.doubt
        wanted = None if keeps else await self._facts.confirm_wanted(endpoint)
        self._answers[endpoint] = liveness, wanted
        return True

    def _decided(
        self, endpoint: Endpoint, liveness: Liveness, wanted: Validity | None
    ) -> ReleaseDecision:
        if liveness.doubt:
            return ReleaseDecision(False, liveness.doubt)
        order = self._order
        return decide_release(
            endpoint,
            order.attachment,
            order.pod.uid,  # as the runtime says it: without one, the container fences
            alive=liveness.alive,
            wanted=wanted,
            migrating=self._migrating,
        )
