"""Verify reports each event with which an agent changes endpoints or GUIDs of another node."""

from __future__ import annotations

from core.audit.ownership_check import foreign_changes
from core.audit.verify import verify
from core.domain.events import Cause, EndpointChanged, GuidsAssigned, Recorded
from core.domain.evolution import Ledger
from core.domain.sriov.model import VfGuid
from core.eventstore.codec import EventDraft
from core.eventstore.group_commit import Proposal
from tests.support.archived_cluster import TEST_KEYS, Add, ArchivedCluster, orbctl_writer
from tests.support.node_harness import pod


async def test_a_release_by_the_agent_of_another_node_is_found(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([Add("node-a", "web-0", 0), Add("node-a", "web-1", 0)])

    await archived_cluster.nodes["node-b"].delete(pod("web-0", "web-0-0"))
    report = await verify(archived_cluster.store, TEST_KEYS, archived_cluster.files)

    (violation,) = report.violations
    assert (violation.rule, violation.subject) == ("writer", "shop/web-0")
    assert violation.text == "an event of the agent on node-b changes an endpoint of node node-a"
    assert not report.is_clean


async def test_an_endpoint_that_the_agent_of_another_node_writes_is_found(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([Add("node-a", "web-0", 0)])
    writer = archived_cluster.nodes["node-b"].writer
    forged = EndpointChanged((await archived_cluster.node.read_ledger()).endpoints["shop", "web-0"])

    await writer.append(Proposal((EventDraft(writer.event_id(), Cause("forged"), forged),), (), ()))
    report = await verify(archived_cluster.store, TEST_KEYS, archived_cluster.files)

    assert [(violation.rule, violation.subject) for violation in report.violations] == [
        ("writer", "shop/web-0")
    ]


def test_guids_that_the_agent_of_another_node_assigns_are_found() -> None:
    guid = VfGuid("02:00:00:00:00:00:00:01", "0000:3b:00.0", "10:70:fd:03:00:16:05:48", 0)
    event = GuidsAssigned("node-a", (guid,))
    events = [Recorded(7, 0, "e", 0, node, Cause("agent"), event) for node in ("node-a", "node-b")]

    (violation,) = [
        foreign for recorded in events for foreign in foreign_changes([recorded], Ledger())
    ]

    assert (violation.rule, violation.subject) == ("writer", "node/node-a")
    assert violation.text == "an event of the agent on node-b changes GUIDs of node node-a"


async def test_the_move_of_a_replica_to_another_node_is_no_violation(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute(
        [Add("node-a", "db-0", 0, fixed=True), Add("node-b", "db-0", 1, fixed=True)]
    )
    await archived_cluster.execute([Add("node-a", "web-0", 0), Add("node-b", "web-0", 1)])

    assert (await verify(archived_cluster.store, TEST_KEYS, archived_cluster.files)).is_clean


async def test_a_controller_may_change_claims_of_every_node(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([Add("node-a", "web-0", 0)])
    async with orbctl_writer(archived_cluster) as writer:
        node = archived_cluster.nodes["node-b"]
        node.releaser._writer = writer
        await node.delete(pod("web-0", "web-0-0"))

    assert (await verify(archived_cluster.store, TEST_KEYS, archived_cluster.files)).is_clean
    assert (await node.read_ledger()).claims == {}
