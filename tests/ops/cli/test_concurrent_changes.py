"""Commands of orbctl during which another process changes the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from core.domain.configuration.commands import DeletePool, DeleteSubnet
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, Guard, TxnResult, Write
from core.eventstore.state_reader import read_ledger
from ops.cli.exit_codes import Exit
from tests.support.faulty_store import UnclosedMemoryStore
from tests.support.node_harness import NodeHarness
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
