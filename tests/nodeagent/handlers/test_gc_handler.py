"""GC releases an attachment only on its own node, in its own network, and with evidence.

The default call is for eth0 of Pod shop/web-0, container c-web-0.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from core.domain.events import AddressesReleased
from core.errors import LogCorrupt
from core.eventstore.kv import Put
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.memory_store import MemoryStore
from nodeagent.cni_protocol.failures import GC_INCOMPLETE, INVALID_CONFIG
from nodeagent.handlers.missing_attachments import MISSING_S_MIN, is_netns_gone
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, ManualClock, running


@pytest.fixture
async def netns_directory(agent: AgentHarness, short_path: Path) -> Path:
    """A directory with the network namespaces of three Pods, which have addresses of pool lan."""
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.99")
    for name in ("web-0", "web-1", "web-2"):
        (short_path / name).touch()
        await agent.add(name, CNI_NETNS=str(short_path / name))
    return short_path


def attachment_entries(*pods: str) -> list[dict[str, str]]:
    return [{"containerID": f"c-{pod}", "ifname": "eth0"} for pod in pods]


async def run_gc(agent: AgentHarness, *valid_pods: str) -> None:
    conf = agent.netconf(**{"cni.dev/valid-attachments": attachment_entries(*valid_pods)})
    reply = await agent.call("GC", conf=conf)
    assert (reply.status, reply.body) == (0, b""), reply.body.decode()


async def pods_with_addresses(agent: AgentHarness) -> set[str]:
    return {claim.pod for claim in (await agent.claims()).values()}


async def test_gc_keeps_an_attachment_that_is_missing_once(
    agent: AgentHarness, netns_directory: Path
) -> None:
    await run_gc(agent, "web-0")

    assert await pods_with_addresses(agent) == {"web-0", "web-1", "web-2"}


async def test_gc_keeps_attachments_after_one_empty_list(
    agent: AgentHarness, netns_directory: Path
) -> None:
    await run_gc(agent)

    assert await pods_with_addresses(agent) == {"web-0", "web-1", "web-2"}


async def test_gc_releases_attachments_that_stay_missing_for_missing_s_min(
    agent: AgentHarness, netns_directory: Path, clock: ManualClock
) -> None:
    await run_gc(agent, "web-0")
    clock.now += MISSING_S_MIN

    await run_gc(agent, "web-0")

    assert await pods_with_addresses(agent) == {"web-0"}


async def test_gc_releases_attachments_if_lists_are_empty_for_missing_s_min(
    agent: AgentHarness, netns_directory: Path, clock: ManualClock
) -> None:
    await run_gc(agent)
    clock.now += MISSING_S_MIN

    await run_gc(agent)

    assert await pods_with_addresses(agent) == set()


async def test_gc_keeps_attachments_that_are_missing_for_less_than_missing_s_min(
    agent: AgentHarness, netns_directory: Path, clock: ManualClock
) -> None:
    await run_gc(agent, "web-0")
    clock.now += MISSING_S_MIN - 1

    await run_gc(agent, "web-0")

    assert await pods_with_addresses(agent) == {"web-0", "web-1", "web-2"}


async def test_gc_keeps_an_attachment_that_was_listed_between_two_absences(
    agent: AgentHarness, netns_directory: Path, clock: ManualClock
) -> None:
    await run_gc(agent, "web-0")
    clock.now += MISSING_S_MIN
    await run_gc(agent, "web-0", "web-1", "web-2")
    clock.now += MISSING_S_MIN

    await run_gc(agent, "web-0")

    assert await pods_with_addresses(agent) == {"web-0", "web-1", "web-2"}


async def test_the_first_gc_releases_an_attachment_whose_namespace_is_deleted(
    agent: AgentHarness, netns_directory: Path
) -> None:
    (netns_directory / "web-1").unlink()

    await run_gc(agent, "web-0")

    assert await pods_with_addresses(agent) == {"web-0", "web-2"}


async def test_gc_keeps_a_listed_attachment_whose_namespace_is_deleted(
    agent: AgentHarness, netns_directory: Path
) -> None:
    (netns_directory / "web-1").unlink()

    await run_gc(agent, "web-0", "web-1", "web-2")

    assert await pods_with_addresses(agent) == {"web-0", "web-1", "web-2"}


async def test_gc_keeps_attachments_under_both_keys_of_the_list(
    agent: AgentHarness, netns_directory: Path
) -> None:
    for name in ("web-0", "web-1", "web-2"):
        (netns_directory / name).unlink()
    conf = agent.netconf(
        **{
            "cni.dev/valid-attachments": attachment_entries("web-0"),
            "cni.dev/attachments": attachment_entries("web-1"),
        }
    )

    await agent.call("GC", conf=conf)

    assert await pods_with_addresses(agent) == {"web-0", "web-1"}


@pytest.mark.parametrize("lists", [{}, {"cni.dev/valid-attachments": None}])
async def test_a_gc_without_a_list_fails_and_releases_nothing(
    agent: AgentHarness, netns_directory: Path, lists: dict[str, None]
) -> None:
    (netns_directory / "web-1").unlink()

    error = (await agent.call("GC", conf=agent.netconf(**lists))).error

    assert error["code"] == INVALID_CONFIG
    assert "cni.dev/valid-attachments is missing" in error["msg"]
    assert await pods_with_addresses(agent) == {"web-0", "web-1", "web-2"}


async def test_gc_releases_nothing_of_another_network(
    agent: AgentHarness, netns_directory: Path
) -> None:
    (netns_directory / "web-1").unlink()
    conf = agent.netconf(name="other", **{"cni.dev/valid-attachments": []})

    assert (await agent.call("GC", conf=conf)).status == 0

    assert await pods_with_addresses(agent) == {"web-0", "web-1", "web-2"}


async def test_gc_releases_nothing_of_another_node(
    agent: AgentHarness, netns_directory: Path, settings: Settings, memory_store: MemoryStore
) -> None:
    other_settings = settings._replace(node_name="node-10", socket_path=f"{settings.socket_path}2")
    async with running(other_settings, memory_store) as other:
        await other.add("far-0", CNI_NETNS=str(netns_directory / "never-there"))

    await run_gc(agent, "web-0", "web-1", "web-2")

    assert await pods_with_addresses(agent) == {"web-0", "web-1", "web-2", "far-0"}


async def test_a_release_by_gc_has_its_evidence_in_the_log(
    agent: AgentHarness, netns_directory: Path
) -> None:
    (netns_directory / "web-1").unlink()

    await run_gc(agent, "web-0", "web-2")

    segments, _ = await LogReader(agent.store, agent.keys).catch_up(LOG_START)
    events = [recorded for segment in segments for recorded in segment.events()]
    last_recorded = events[-1]
    event = last_recorded.event
    assert isinstance(event, AddressesReleased)
    assert event.reason == "gc"
    assert event.evidence == (
        f"container c-web-1 interface eth0: network namespace {netns_directory}/web-1 is gone"
    )
    assert last_recorded.cause.actor == "agent/node-1"


async def test_gc_releases_only_interfaces_in_its_network(
    agent: AgentHarness, netns_directory: Path, clock: ManualClock
) -> None:
    second_conf = agent.netconf(name="lan-2")
    await agent.add(
        "web-0", CNI_IFNAME="net1", CNI_NETNS=str(netns_directory / "web-0"), conf=second_conf
    )
    gc_conf = agent.netconf(name="lan-2", **{"cni.dev/valid-attachments": []})

    await agent.call("GC", conf=gc_conf)
    clock.now += MISSING_S_MIN
    await agent.call("GC", conf=gc_conf)
    endpoint = await agent.endpoint()

    assert endpoint is not None
    assert [nic.interface for nic in endpoint.nics] == ["eth0"]
    assert len(await agent.claims()) == 3


async def test_gc_releases_all_interfaces_in_a_deleted_namespace(
    agent: AgentHarness, netns_directory: Path
) -> None:
    second_conf = agent.netconf(name="lan-2")
    await agent.add(
        "web-0", CNI_IFNAME="net1", CNI_NETNS=str(netns_directory / "web-0"), conf=second_conf
    )
    (netns_directory / "web-0").unlink()

    await run_gc(agent, "web-1", "web-2")

    assert await agent.endpoint() is None
    assert await pods_with_addresses(agent) == {"web-1", "web-2"}


async def test_gc_keeps_fixed_addresses(agent: AgentHarness, netns_directory: Path) -> None:
    owner = {"owner_kind": "StatefulSet", "owner_name": "db", "owner_api_version": "apps/v1"}
    await agent.pod("db-0", {}, **owner)
    await agent.add("db-0", CNI_NETNS=str(netns_directory / "db-0"))

    await run_gc(agent, "web-0", "web-1", "web-2")

    assert "db-0" in await pods_with_addresses(agent)


async def test_gc_continues_after_an_error_and_reports_the_error_at_the_end(
    agent: AgentHarness, netns_directory: Path
) -> None:
    for name in ("web-0", "web-1", "web-2"):
        (netns_directory / name).unlink()
    claims = await agent.claims()
    broken_address = next(address for address, claim in claims.items() if claim.pod == "web-1")
    await agent.store.commit([], [Put(agent.keys.ip_of(broken_address), b"no claim")])
    conf = agent.netconf(**{"cni.dev/valid-attachments": []})

    error = (await agent.call("GC", conf=conf)).error

    assert error["code"] == GC_INCOMPLETE
    assert "GC failed for 1 endpoint: shop/web-1: " in error["msg"]
    assert "this GC released 2 endpoints" in error["details"]
    with pytest.raises(LogCorrupt):
        await agent.claims()
    assert await agent.endpoint("web-2") is None


async def test_a_namespace_counts_as_deleted_only_in_a_visible_directory(short_path: Path) -> None:
    existing_path = short_path / "present"
    existing_path.touch()

    assert is_netns_gone(str(short_path / "gone"))
    assert not is_netns_gone(str(existing_path))
    assert not is_netns_gone(str(short_path / "no-such-directory" / "gone"))
    assert not is_netns_gone("/proc/999999999/ns/net")
    assert not is_netns_gone("")
    assert not is_netns_gone("relative")


async def test_missing_attachments_beyond_missed_max_are_logged_and_kept(
    agent: AgentHarness,
    netns_directory: Path,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("nodeagent.handlers.missing_attachments.MISSING_MAX", 1)
    pods_before = await pods_with_addresses(agent)

    await run_gc(agent)
    clock.now += MISSING_S_MIN
    await run_gc(agent)

    assert len(await pods_with_addresses(agent)) == len(pods_before) - 1
    assert (
        f"{len(pods_before)} attachments are missing, and only 1 of them are remembered"
        in caplog.text
    )
