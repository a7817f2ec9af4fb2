"""``verify`` reports an agent that changes endpoints or GUIDs of another node."""

from __future__ import annotations

from core.audit.ownership_check import foreign_changes
from core.audit.verify import verify
from core.domain.events import Cause, EndpointChanged, GuidsAssigned, Recorded
from core.domain.evolution import Ledger
from core.domain.sriov.model import VfGuid
from core.eventstore.codec import EventDraft
from core.eventstore.group_commit import Proposal
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster, CniAdd, orbctl_writer
from tests.support.node_harness import pod


async def test_a_release_by_the_agent_of_another_node_is_reported(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", "web-0"), CniAdd("node-a", "web-1")])

    await archived_cluster.nodes["node-b"].delete(pod("web-0", uid="web-0-0"))
    report = await verify(archived_cluster.store, TEST_KEYS, archived_cluster.files)

    (violation,) = report.violations
    assert (violation.rule, violation.subject) == ("writer", "shop/web-0")
    assert violation.text == "an event of the agent on node-b changes an endpoint of node node-a"
    assert not report.is_clean


async def test_an_endpoint_written_by_the_agent_of_another_node_is_reported(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", "web-0")])
    writer = archived_cluster.nodes["node-b"].writer
    forged = EndpointChanged((await archived_cluster.node.read_ledger()).endpoints["shop", "web-0"])

    draft = EventDraft(writer.event_id(), Cause("forged"), forged)
    await writer.append(Proposal((draft,), guards=(), writes=()))
    report = await verify(archived_cluster.store, TEST_KEYS, archived_cluster.files)

    assert [(violation.rule, violation.subject) for violation in report.violations] == [
        ("writer", "shop/web-0")
    ]


def test_guids_assigned_by_the_agent_of_another_node_are_reported() -> None:
    guid = VfGuid(
        guid="02:00:00:00:00:00:00:01", nic="0000:3b:00.0", nic_guid="10:70:fd:03:00:16:05:48", vf=0
    )
    event = GuidsAssigned("node-a", (guid,))
    assignments = [
        Recorded(
            position=7,
            index_in_segment=0,
            event_id="e",
            recorded_at_ms=0,
            writer=node,
            cause=Cause("agent"),
            event=event,
        )
        for node in ("node-a", "node-b")
    ]

    (violation,) = [
        change for recorded in assignments for change in foreign_changes([recorded], Ledger())
    ]

    assert (violation.rule, violation.subject) == ("writer", "node/node-a")
    assert violation.text == "an event of the agent on node-b changes GUIDs of node node-a"


async def test_a_pod_that_is_recreated_on_another_node_is_not_reported(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute(
        [
            CniAdd("node-a", "db-0", of_statefulset=True),
            CniAdd("node-b", "db-0", generation=1, of_statefulset=True),
        ]
    )
    await archived_cluster.execute(
        [CniAdd("node-a", "web-0"), CniAdd("node-b", "web-0", generation=1)]
    )

    assert (await verify(archived_cluster.store, TEST_KEYS, archived_cluster.files)).is_clean


async def test_orbctl_may_change_claims_of_every_node(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", "web-0")])
    async with orbctl_writer(archived_cluster) as writer:
        node = archived_cluster.nodes["node-b"]
        node.releaser._writer = writer  # the writer of orbctl
        await node.delete(pod("web-0", uid="web-0-0"))

    assert (await verify(archived_cluster.store, TEST_KEYS, archived_cluster.files)).is_clean
    assert (await node.read_ledger()).claims == {}
