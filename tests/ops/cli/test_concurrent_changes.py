"""Commands of orbctl during which another process changes the cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from core.domain.configuration.commands import DeletePool, DeleteSubnet
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, Guard, IsWhole, TxnResult, WatchBatch, Write
from core.eventstore.state_reader import read_ledger
from ops.cli.exit_codes import Exit
from tests.support.faulty_store import UnclosedMemoryStore
from tests.support.node_harness import NodeHarness, pool
from tests.support.orbctl_harness import CLUSTER_NAME, START_MS, OrbctlHarness

DIRECTORY = Path(__file__).parent / "transcripts"


@pytest.fixture
def orbctl(tmp_path: Path) -> OrbctlHarness:
    return OrbctlHarness(tmp_path / "archive")


class DeletingStore(UnclosedMemoryStore):
    """A store with a controller that deletes retiring pools and subnets at once."""

    def __init__(self) -> None:
        super().__init__(lambda: START_MS / 1000)
        self._is_deleting = False

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        result = await super().commit(guards, writes, otherwise)
        if not self._is_deleting:
            self._is_deleting = True
            await self._delete_retiring_objects()
            self._is_deleting = False
        return result

    async def _delete_retiring_objects(self) -> None:
        ledger = await read_ledger(self, Keys(CLUSTER_NAME))
        pools = [DeletePool(name) for name, value in ledger.pools.items() if value.retiring]
        subnets = [DeleteSubnet(name) for name, value in ledger.subnets.items() if value.retiring]
        if pools or subnets:
            async with NodeHarness(self, "controller", cluster=CLUSTER_NAME) as controller:
                await controller.apply(*pools, *subnets)


@pytest.mark.parametrize(
    ("file", "kind", "name"),
    [("pools.yaml", "pool", "blue"), ("subnets.yaml", "subnet", "racks")],
)
def test_a_drain_succeeds_if_a_controller_deletes_the_object(
    orbctl: OrbctlHarness, file: str, kind: str, name: str
) -> None:
    orbctl.store = DeletingStore()
    assert orbctl.orbctl("apply", "-f", str(DIRECTORY / file)).code == Exit.OK

    drained = orbctl.orbctl("delete", kind, name, "--drain", "--timeout", "0")
    repeated = orbctl.orbctl("delete", kind, name, "--drain", "--timeout", "0")

    assert drained.code == Exit.OK, drained.err
    assert drained.out.splitlines()[-1].endswith(f"/{name} deleted")
    assert repeated.code == Exit.NOT_FOUND


class ChangingStore(UnclosedMemoryStore):
    """A store whose watch gets a new pool for each name; then the user interrupts orbctl."""

    def __init__(self, *pools: str) -> None:
        super().__init__(lambda: START_MS / 1000)
        self._pools = pools

    async def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        batches = super().watch(ranges, after=after, is_whole=is_whole)
        pools, self._pools = self._pools, ()
        for number, name in enumerate(pools):
            async with NodeHarness(self, "other", cluster=CLUSTER_NAME) as other:
                await other.apply(pool(name, f"10.6.{number}.10-10.6.{number}.19"))
            while not (batch := await anext(batches)).changes:
                pass
            yield batch
        if pools:
            raise KeyboardInterrupt
        async for batch in batches:
            yield batch


def test_events_prints_a_csv_header_before_the_first_new_event(orbctl: OrbctlHarness) -> None:
    orbctl.store = ChangingStore("blue", "green")

    result = orbctl.orbctl("events", "--follow", "-o", "csv")

    header, *rows = result.out.splitlines()
    assert header == "TIME,TYPE,SUBJECT,DETAIL,BY,POSITION"
    assert [row.split(",")[2] for row in rows] == ["pool/blue", "pool/green"]
    assert result.code == Exit.INTERRUPTED


def test_a_watch_reports_an_empty_list_once(
    orbctl: OrbctlHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.cli.commands.get.WATCH_PAUSE_S", 0)
    orbctl.store = ChangingStore("blue", "green")

    result = orbctl.orbctl("get", "subnets", "--watch")

    assert result.err.splitlines() == ["there are no subnets"]
    assert result.code == Exit.INTERRUPTED


def test_a_watch_of_an_empty_list_prints_one_header(
    orbctl: OrbctlHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.cli.commands.get.WATCH_PAUSE_S", 0)
    orbctl.store = ChangingStore("blue", "green")

    result = orbctl.orbctl("get", "pools", "--watch", "-o", "csv")

    assert [line.split(",")[0] for line in result.out.splitlines()] == ["NAME", "blue", "green"]
    assert result.code == Exit.INTERRUPTED
