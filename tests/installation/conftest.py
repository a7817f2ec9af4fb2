"""The images and one bare cluster for the tests of this folder; skips them without programs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.installation import images
from tests.installation.bare_cluster import BareCluster
from tests.nodes.conftest import PROGRAMS
from tests.nodes.kubelet import KubeNode
from tests.packaging.project import ROOT
from tests.support.documents import shell_blocks
from tests.support.kubernetes import ASSETS, missing_programs
from tests.support.parts import HELM, IMAGE_BUILDER, KUBELET, needs, require_containers

INSTALL = ROOT / "docs/how-to/install.md"


@pytest.fixture(scope="session")
def possible() -> None:
    """Skip the tests, with the reason, if this machine cannot build images or run a cluster."""
    require_containers()
    if absent := missing_programs(*PROGRAMS):
        pytest.skip(needs(KUBELET, f"no {' and no '.join(absent)} in {ASSETS}"))
    if absent := images.missing_programs():
        pytest.skip(needs(IMAGE_BUILDER, f"not installed: {', '.join(absent)}"))
    pytest.importorskip("helm_python", reason=needs(HELM))


@pytest.fixture(scope="session")
def archives(possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """The files of all images of the chart."""
    directory = tmp_path_factory.mktemp("images")
    images.build(shell_blocks(INSTALL)[0])
    found = images.save(directory)
    yield found
    for path in found:
        path.unlink()


@pytest.fixture(scope="module")
def cluster(archives: list[Path]) -> Iterator[BareCluster]:
    """A cluster on whose nodes all images are imported, as after a pull."""
    with BareCluster() as cluster:
        with ThreadPoolExecutor() as executor:
            nodes = cluster.nodes.values()
            list(executor.map(lambda node: import_all(node, archives), nodes))
        yield cluster


def import_all(node: KubeNode, archives: list[Path]) -> None:
    """Import all images into the runtime of a node."""
    for archive in archives:
        node.containerd.import_image(archive)
