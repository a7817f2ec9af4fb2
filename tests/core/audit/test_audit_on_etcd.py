"""Seals, history, ``verify`` and ``repair`` on a real etcd."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.audit.history import read_history
from core.audit.history_entries import parse_subject
from core.audit.repair import repair
from core.audit.state_at import as_of_position
from core.audit.verify import verify
from core.domain.events import Cause
from core.eventstore.etcd import EtcdStore
from core.eventstore.kv import Delete
from tests.support.archived_cluster import (
    TEST_KEYS,
    CniAdd,
    CniDel,
    archived_cluster,
    have_same_content,
    orbctl_writer,
)

pytestmark = pytest.mark.etcd


async def test_a_log_on_etcd_is_sealed_audited_and_repaired(
    etcd_store: EtcdStore, tmp_path: Path
) -> None:
    async with archived_cluster(tmp_path, etcd_store) as cluster:
        await cluster.execute([CniAdd("node-a", f"web-{number}") for number in range(5)])
        before = await cluster.replayed()
        past_position = before[-2].position
        past = await as_of_position(await cluster.view(), past_position)
        assert await cluster.seal(file_bytes_max=1_000) > 1
        assert await cluster.live_segments() == 0
        assert await cluster.replayed() == before
        assert have_same_content(await as_of_position(await cluster.view(), past_position), past)

        await cluster.execute([CniDel("node-b", "web-0"), CniAdd("node-b", "web-0", generation=1)])
        web_1 = (await cluster.node.read_ledger()).endpoints["shop", "web-1"]
        address = web_1.nics[0].ipv4.split("/")[0]
        # A manual edit with etcdctl writes no event to the log.
        await etcd_store.commit(
            [], [Delete(TEST_KEYS.ip_of(address)), Delete(TEST_KEYS.pool("spare"))]
        )
        report = await verify(etcd_store, TEST_KEYS, cluster.files)
        assert [difference.name for difference in report.differences] == ["spare", address]
        async with orbctl_writer(cluster) as writer:
            repaired = await repair(report.plan, etcd_store, TEST_KEYS, writer, Cause("orbctl"))
        assert len(repaired.done) == 2
        assert (await verify(etcd_store, TEST_KEYS, cluster.files)).is_clean

        await cluster.execute([CniDel("node-a", "web-1")])
        await cluster.seal()
        (entry,) = (await read_history(await cluster.view(), parse_subject(address))).entries
        assert (entry.pod, entry.reason) == ("web-1", "deleted")
        assert (await verify(etcd_store, TEST_KEYS, cluster.files)).is_clean
