"""Runs the commands of docs/how-to/upgrade.md on an installation of an earlier commit.

Each version must read the event log of the other version.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.installation import images
from tests.installation.bare_cluster import BareCluster
from tests.installation.release import (
    WAIT_FOR_ROLLOUT,
    crd_versions,
    orbweaver_objects,
    pod,
    pod_by_address_in_endpoints,
    pod_by_address_in_pool,
    running_images,
    start_pod,
)
from tests.packaging.project import PROJECT_ROOT
from tests.support.documents import shell_blocks
from tests.support.parts import EARLIER_COMMIT, needs

INSTALL, UPGRADE, UNINSTALL = (
    PROJECT_ROOT / "docs/how-to" / name for name in ("install.md", "upgrade.md", "uninstall.md")
)
EARLIER_VERSION: Final = "c6d3db0a"
"""A commit whose events, CRDs and chart lack fields and kinds that exist now."""

BUILD_EARLIER: Final = "make images REGISTRY=registry.example.com/ TAG=earlier"
PUSH_EARLIER: Final = "make push-images REGISTRY=registry.example.com/ TAG=earlier"

pytestmark = [
    pytest.mark.kubelet,
    pytest.mark.containerd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def earlier_clone(run_names_are_removed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone at ``EARLIER_VERSION``, with built images."""
    if git(PROJECT_ROOT, "cat-file", "-e", f"{EARLIER_VERSION}^{{commit}}").returncode:
        pytest.skip(needs(EARLIER_COMMIT, f"git has no commit {EARLIER_VERSION}"))
    clone = tmp_path_factory.mktemp("earlier") / "orbweaver"
    for arguments in (
        ("clone", "--quiet", "--shared", "--no-checkout", str(PROJECT_ROOT), str(clone)),
        ("-C", str(clone), "checkout", "--quiet", EARLIER_VERSION),
    ):
        done = git(PROJECT_ROOT, *arguments)
        assert done.returncode == 0, done.stderr
    images.build(BUILD_EARLIER, clone)
    return clone


def test_an_upgrade_and_a_rollback_lose_no_address(
    earlier_clone: Path, cluster: BareCluster
) -> None:
    # The pages' shell blocks, in order.
    _, push, install, pool = shell_blocks(INSTALL)
    upgrade, roll_back = shell_blocks(UPGRADE)

    cluster.shell(f"{PUSH_EARLIER}\n{install}", earlier_clone)
    cluster.shell(pool)
    expected = {start_pod(cluster, "web"): "web"}
    earlier_images = running_images(cluster)
    uid, earlier_crds = pod(cluster, "web")["metadata"]["uid"], crd_versions(cluster)
    assert digests(earlier_images) == pushed_digests(earlier_clone)

    cluster.shell(push)
    cluster.shell(upgrade)
    assert (
        digests(running_images(cluster))
        == pushed_digests(PROJECT_ROOT)
        != pushed_digests(earlier_clone)
    )
    assert crd_versions(cluster) == crd_versions_of_chart(PROJECT_ROOT) != earlier_crds
    expected[start_pod(cluster, "between")] = "between"
    assert_addresses(cluster, expected)

    cluster.shell(f"{roll_back}{WAIT_FOR_ROLLOUT}")
    cluster.until(lambda: running_images(cluster) == earlier_images, "the earlier images")
    expected[start_pod(cluster, "later")] = "later"
    assert_addresses(cluster, expected)

    cluster.shell(upgrade)
    assert digests(running_images(cluster)) == pushed_digests(PROJECT_ROOT)
    cluster.shell("kubectl delete pod between")
    del expected[next(address for address, name in expected.items() if name == "between")]
    assert_addresses(cluster, expected)
    web = pod(cluster, "web")
    assert web["metadata"]["uid"] == uid
    assert [container["restartCount"] for container in web["status"]["containerStatuses"]] == [0]

    cluster.shell("kubectl delete pod web later")
    remove, remove_all = shell_blocks(UNINSTALL)
    cluster.shell(f"{remove}{remove_all}")
    cluster.until(lambda: not orbweaver_objects(cluster), "the deletion of all objects")


def assert_addresses(cluster: BareCluster, expected: dict[str, str]) -> None:
    cluster.until(
        lambda: pod_by_address_in_endpoints(cluster) == expected,
        f"addresses of the endpoints: {expected}",
    )
    cluster.until(
        lambda: pod_by_address_in_pool(cluster) == expected, f"allocations of the pool: {expected}"
    )
    for address, name in expected.items():
        assert f"default/{name}" in cluster.shell(f"kubectl orb history {address}")
    cluster.shell("kubectl orb verify")


def digests(names: set[str]) -> set[str]:
    return {name.partition("@")[2] for name in names}


def pushed_digests(clone: Path) -> set[str]:
    """The digests that ``make push-images`` wrote."""
    values: dict[str, Any] = yaml.safe_load((clone / "build/images/values.yaml").read_text("utf-8"))
    return {
        values["spiderpoolController"]["image"]["digest"],
        values["spiderpoolAgent"]["image"]["digest"],
        values["etcd"]["embedded"]["image"]["digest"],
    }


def crd_versions_of_chart(clone: Path) -> dict[str, Any]:
    versions_by_kind = {}
    for path in sorted((clone / "ops/charts/orbweaver-crds/templates").glob("*.yaml")):
        for definition in yaml.safe_load_all(path.read_text("utf-8")):
            versions_by_kind[definition["spec"]["names"]["kind"]] = definition["spec"]["versions"]
    return versions_by_kind


def git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
