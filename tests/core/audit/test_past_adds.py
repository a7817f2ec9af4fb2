"""The results of a Pod's past ADDs, at any position of the log."""

from __future__ import annotations

from core.allocation.refusal_recorder import RefusalRecorder
from core.audit.history import read_history
from core.audit.history_entries import parse_subject
from core.audit.past_adds import LogMoment, read_past_adds
from core.domain.events import AllocationRefused, Cause
from core.errors import AddressesUsedOut
from tests.support.archived_cluster import ArchivedCluster, CniAdd, CniDel
from tests.support.node_harness import pod

WEB_0 = ("shop", "web-0")


async def record_refused_add(cluster: ArchivedCluster, name: str) -> int:
    """Return the position of the refusal event."""
    recorder = RefusalRecorder(cluster.node.writer)
    recorder.note(pod(name), "eth0", AddressesUsedOut("full"), Cause("agent"))
    await recorder.write_due()
    return (await cluster.replayed())[-1].position


async def test_an_archived_refusal_is_found_by_pod_name_and_by_uid(
    archived_cluster: ArchivedCluster,
) -> None:
    await record_refused_add(archived_cluster, "web-0")
    await record_refused_add(archived_cluster, "web-1")
    await archived_cluster.seal()
    view = await archived_cluster.view()

    for subject in ("shop/web-0", "uid/uid-web-0"):
        (entry,) = (await read_history(view, parse_subject(subject))).entries
        assert (entry.kind, entry.pod, entry.reason) == ("refused", "web-0", "used-out")
    adds = await read_past_adds(view, WEB_0)
    assert adds.refused is not None
    assert isinstance(adds.refused.event, AllocationRefused)
    assert (adds.claims, adds.endpoint) == ((), None)


async def test_past_adds_depend_on_the_log_position(
    archived_cluster: ArchivedCluster,
) -> None:
    refused_at = await record_refused_add(archived_cluster, "web-0")
    await archived_cluster.execute([CniAdd("node-a", "web-0")])
    claimed_at = (await archived_cluster.replayed())[-1].position
    await archived_cluster.seal()
    await archived_cluster.execute([CniDel("node-a", "web-0")])
    view = await archived_cluster.view()

    before = await read_past_adds(view, WEB_0, LogMoment(position=refused_at - 1))
    after_refusal = await read_past_adds(view, WEB_0, LogMoment(position=refused_at))
    after_claim = await read_past_adds(view, WEB_0, LogMoment(position=claimed_at))
    now = await read_past_adds(view, WEB_0)

    assert (before.claims, before.refused) == ((), None)
    assert after_refusal.refused is not None
    assert len(after_claim.claims) == 1
    assert after_claim.refused is None
    assert after_claim.names_selection_level, (
        "the claim event does not say how its pool was selected"
    )
    assert after_claim.endpoint is not None
    assert (now.claims, now.endpoint) == ((), None)
    assert now.released is not None
