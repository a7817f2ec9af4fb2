"""A real etcd is backed up and restored as docs/how-to/back-up-and-restore.md says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from tests.support.etcd import EtcdCluster
from tests.support.node_harness import NodeHarness, addresses, check_everything, pod, pool
from tests.support.parts import needs

REVISION_BUMP = 1_000_000_000
"""More than the revisions after the snapshot, so that no revision is used twice."""

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.skipif(shutil.which("etcdutl") is None, reason=needs("etcdutl")),
]


def restore(etcd: EtcdCluster, snapshot: Path) -> None:
    """Replace the member's data with the snapshot, by the documented command."""
    (member,) = etcd.members
    member.kill()
    data = member.directory / "data"
    shutil.rmtree(data)
    subprocess.run(
        [
            *("etcdutl", "snapshot", "restore", str(snapshot), "--data-dir", str(data)),
            *("--bump-revision", str(REVISION_BUMP), "--mark-compacted", "--name", member.name),
            *("--initial-cluster", f"{member.name}={member.peer_url}"),
            *("--initial-advertise-peer-urls", member.peer_url),
        ],
        check=True,
        capture_output=True,
    )
    etcd.restart(member)


async def test_a_restored_log_is_complete_and_can_be_continued(
    tmp_path: Path,
) -> None:
    snapshot = tmp_path / "snapshot.db"
    with EtcdCluster(tmp_path) as etcd:
        store = EtcdStore(EtcdSettings(etcd.endpoints))
        async with NodeHarness(store, cool_down_s=0) as node:
            await node.apply(pool("lan", "10.6.0.1-10.6.0.9"))
            added = [await node.add(pod(f"web-{number}")) for number in range(3)]
            await node.delete(pod("web-2"))
            save = ["etcdctl", f"--endpoints={etcd.endpoints[0]}", "snapshot", "save"]
            subprocess.run([*save, str(snapshot)], check=True, capture_output=True)
            added_after_the_snapshot = await node.add(pod("late-0"))
            assert addresses(added_after_the_snapshot), "late-0 must get an address"
        await store.close()

        restore(etcd, snapshot)

        store = EtcdStore(EtcdSettings(etcd.endpoints))
        async with NodeHarness(store, cool_down_s=0) as node:
            before = await check_everything(node)
            assert {claim.name for claim in before.endpoints.values()} == {"web-0", "web-1"}
            repeated = await node.add(pod("web-0"))
            assert addresses(repeated) == addresses(added[0]), (
                "web-0 must keep the address of its restored claim"
            )
            other = await node.add(pod("other-0"))
            assert not addresses(other) & (addresses(added[0]) | addresses(added[1]))
            after = await check_everything(node)
            assert after.endpoints.keys() == {
                ("shop", name) for name in ("web-0", "web-1", "other-0")
            }
        await store.close()
