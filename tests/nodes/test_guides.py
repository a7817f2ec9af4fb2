"""The commands in docs/guides print the outputs that are on the pages.

    WRITE_GUIDES=1 python -m pytest tests/nodes/test_guides.py

writes the printed outputs into the pages.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.clusterip.pod_cgroups import cgroup2_mounts
from tests.nodes.guides import GUIDES_FOLDER, SHARED_GUIDE, GuideRunner, guide_runner
from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.multus import why_missing
from tests.support.documents import Page, shell_blocks
from tests.support.parts import CGROUPS, needs

WRITES_PAGES = "WRITE_GUIDES" in os.environ
GUIDES = [
    path
    for path in sorted(GUIDES_FOLDER.glob("*.md"))
    if path != SHARED_GUIDE and shell_blocks(path)
]

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_missing()), reason=why_missing()),
]


@pytest.fixture(scope="module")
def runner(
    running_cluster: KubernetesCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GuideRunner]:
    archive = tmp_path_factory.mktemp("images") / "busybox.tar"
    with guide_runner(running_cluster, archive, writes_pages=WRITES_PAGES) as runner:
        yield runner
    assert running_cluster.forbidden_requests() == set()


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_a_guide_prints_what_its_page_shows_and_leaves_no_objects(
    runner: GuideRunner, path: Path
) -> None:
    if path.stem == "clusterip" and not cgroup2_mounts():
        pytest.skip(needs(CGROUPS))
    assert runner.execute_and_undo(Page(path)) == set()
