"""DEL: release what an attachment held, once, and only what it held.

Promise: nothing left to do is success (I7); a late DEL of an older sandbox ends nothing (I3); a
fixed address stays unless it is certain that its replica or VM is not wanted any more.
"""

from __future__ import annotations

from typing import NamedTuple

from core.domain.claims import ReleaseDecision, decide_release
from core.domain.events import Cause
from core.domain.model import Attachment, Endpoint
from core.service.releaser import Released, ReleaseOrder, Releaser
from nodeagent.cniwire.call import Call
from nodeagent.facts import FactsSource, PodReference


class Deleted(NamedTuple):
    """What a DEL did; ``tries`` 1 if no race was lost."""

    released: Released
    tries: int


class DeleteOrder(NamedTuple):
    """One DEL, from whichever door."""

    pod: PodReference
    attachment: Attachment
    traceparent: str = ""


def delete_order(call: Call) -> DeleteOrder:
    """The order of a CNI call."""
    attachment = Attachment(call.container, call.interface, call.conf.name, call.netns)
    return DeleteOrder(PodReference(call.pod, call.container), attachment, call.traceparent)


class Deleting:
    """Does DELs."""

    def __init__(self, releaser: Releaser, facts: FactsSource, actor: str) -> None:
        self._releaser = releaser
        self._facts = facts
        self._actor = actor

    async def delete(self, order: DeleteOrder) -> Deleted:
        """Raises StoreError, LogError."""
        await self._facts.confirm(order.pod)
        pod = self._facts.facts(order.pod).pod
        attachment = order.attachment

        tries = 0

        def decide(endpoint: Endpoint) -> ReleaseDecision:
            nonlocal tries
            tries += 1
            # The UID as the runtime says it: without one, the container fences.
            uid = order.pod.pod.uid
            wanted = self._facts.wanted(endpoint)
            return decide_release(
                endpoint,
                attachment,
                uid,
                alive=pod.alive,
                wanted=wanted,
                migrating=pod.migrating,
            )

        evidence = f"CNI DEL of container {attachment.container}"
        cause = Cause(self._actor, attachment.container, "", order.traceparent)
        release = ReleaseOrder("deleted", evidence, cause)
        released = await self._releaser.release(pod.endpoint_key, decide, release)
        return Deleted(released, max(tries, 1))
