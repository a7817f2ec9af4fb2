"""The commands of docs/how-to/upgrade.md, word for word, from an installation of an earlier commit.

Chart, definitions and images of that commit are built from the history of this clone. This version
reads the log of the earlier version; after the rollback, the earlier version reads that of this
version.
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
    ROLLED_OUT,
    claims,
    definitions,
    ours,
    pod,
    recorded,
    running_images,
    start_pod,
)
from tests.packaging.project import PROJECT_ROOT
from tests.support.documents import shell_blocks
from tests.support.parts import EARLIER_COMMIT, needs

INSTALL, UPGRADE, UNINSTALL = (
    PROJECT_ROOT / "docs/how-to" / name for name in ("install.md", "upgrade.md", "uninstall.md")
)
EARLIER: Final = "c6d3db0a"
"""A commit whose events, definitions and templates lack fields and kinds of later ones."""

BUILD: Final = "make images REGISTRY=registry.example.com/ TAG=earlier"
PUSH: Final = "make push-images REGISTRY=registry.example.com/ TAG=earlier"

pytestmark = [
    pytest.mark.kubelet,
    pytest.mark.containerd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def earlier(image_names: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone at the earlier commit, with its images built."""
    if git(PROJECT_ROOT, "cat-file", "-e", f"{EARLIER}^{{commit}}").returncode:
        pytest.skip(needs(EARLIER_COMMIT, f"git has no commit {EARLIER}"))
    clone = tmp_path_factory.mktemp("earlier") / "orbweaver"
    for arguments in (
        ("clone", "--quiet", "--shared", "--no-checkout", str(PROJECT_ROOT), str(clone)),
        ("-C", str(clone), "checkout", "--quiet", EARLIER),
    ):
        done = git(PROJECT_ROOT, *arguments)
        assert done.returncode == 0, done.stderr
    images.build(BUILD, clone)
    return clone


def test_an_upgrade_and_a_rollback_lose_no_address(earlier: Path, cluster: BareCluster) -> None:
    _, push, install, pool = shell_blocks(INSTALL)
    upgrade, roll_back = shell_blocks(UPGRADE)

    cluster.shell(f"{PUSH}\n{install}", earlier)
    cluster.shell(pool)
    held = {start_pod(cluster, "web"): "web"}
    first = running_images(cluster)
    uid, first_definitions = pod(cluster, "web")["metadata"]["uid"], definitions(cluster)
    assert digests(first) == named(earlier)

    cluster.shell(push)
    cluster.shell(upgrade)
    assert digests(running_images(cluster)) == named(PROJECT_ROOT) != named(earlier)
    assert definitions(cluster) == charted(PROJECT_ROOT) != first_definitions
    held[start_pod(cluster, "between")] = "between"
    assert_held(cluster, held)

    cluster.shell(f"{roll_back}{ROLLED_OUT}")
    cluster.until(lambda: running_images(cluster) == first, "the earlier images")
    held[start_pod(cluster, "later")] = "later"
    assert_held(cluster, held)

    cluster.shell(upgrade)
    assert digests(running_images(cluster)) == named(PROJECT_ROOT)
    cluster.shell("kubectl delete pod between")
    del held[next(address for address, name in held.items() if name == "between")]
    assert_held(cluster, held)
    web = pod(cluster, "web")
    assert web["metadata"]["uid"] == uid
    assert [container["restartCount"] for container in web["status"]["containerStatuses"]] == [0]

    cluster.shell("kubectl delete pod web later")
    remove, remove_all = shell_blocks(UNINSTALL)
    cluster.shell(f"{remove}{remove_all}")
    cluster.until(lambda: not ours(cluster), "the end of all objects")


def assert_held(cluster: BareCluster, held: dict[str, str]) -> None:
    """Assert that endpoints, the pool's record and the log have exactly these addresses."""
    cluster.until(lambda: claims(cluster) == held, f"endpoints of {held}")
    cluster.until(lambda: recorded(cluster) == held, f"a record of {held}")
    for address, name in held.items():
        assert f"default/{name}" in cluster.shell(f"kubectl orb history {address}")
    cluster.shell("kubectl orb verify")


def digests(names: set[str]) -> set[str]:
    """The digests in names of images."""
    return {name.partition("@")[2] for name in names}


def named(clone: Path) -> set[str]:
    """The digests that ``make push-images`` wrote in a clone."""
    values: dict[str, Any] = yaml.safe_load((clone / "build/images/values.yaml").read_text("utf-8"))
    return {
        values["spiderpoolController"]["image"]["digest"],
        values["spiderpoolAgent"]["image"]["digest"],
        values["etcd"]["embedded"]["image"]["digest"],
    }


def charted(clone: Path) -> dict[str, Any]:
    """The schemas of our custom resources in the chart of a clone, by kind."""
    schemas = {}
    for path in sorted((clone / "ops/charts/orbweaver-crds/templates").glob("*.yaml")):
        for definition in yaml.safe_load_all(path.read_text("utf-8")):
            schemas[definition["spec"]["names"]["kind"]] = definition["spec"]["versions"]
    return schemas


def git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a directory; it may fail."""
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
