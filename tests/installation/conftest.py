"""The images, the registry's data, and a cluster without Orbweaver."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import images
from tests.installation.bare_cluster import BareCluster
from tests.nodes.conftest import CLUSTER_PROGRAMS
from tests.packaging.project import PROJECT_ROOT
from tests.support.documents import shell_blocks
from tests.support.kubernetes import KUBERNETES_PROGRAMS, missing_programs
from tests.support.parts import HELM, IMAGE_BUILDER, KUBELET, needs, require_containers

INSTALL = PROJECT_ROOT / "docs/how-to/install.md"


@pytest.fixture(scope="session")
def can_build_and_run() -> None:
    """Skip the test if this machine cannot build images or run a cluster."""
    require_containers()
    if absent := missing_programs(*CLUSTER_PROGRAMS):
        pytest.skip(needs(KUBELET, f"no {' and no '.join(absent)} in {KUBERNETES_PROGRAMS}"))
    if absent := images.missing_programs():
        pytest.skip(needs(IMAGE_BUILDER, f"not installed: {', '.join(absent)}"))
    pytest.importorskip("helm_python", reason=needs(HELM))


@pytest.fixture(scope="session")
def run_names_are_removed(can_build_and_run: None) -> Iterator[None]:
    """Remove the names of this run's images at the end."""
    yield
    images.remove_run_names()


@pytest.fixture(scope="session")
def images_are_built(run_names_are_removed: None) -> None:
    """Build our images by the first block of install.md, and etcd's image."""
    images.build(shell_blocks(INSTALL)[0])
    images.make_etcd()


@pytest.fixture(scope="session")
def registry_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of images that the registries of all clusters share."""
    data = tmp_path_factory.mktemp("registry")
    yield data
    shutil.rmtree(data)


@pytest.fixture(scope="package")
def cluster(images_are_built: None, registry_data: Path) -> Iterator[BareCluster]:
    """A cluster without Orbweaver; each test must uninstall Orbweaver."""
    with BareCluster(registry_data) as cluster:
        yield cluster
