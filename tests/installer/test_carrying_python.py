"""A node without any Python, without a shell and without a C library runs the executables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import BadInput
from ops.carrying import HOME_NAME, KEPT_MAX, build, carry, prune
from ops.cli.main import run
from ops.cli.session import Surroundings
from tests.support.parts import NAMESPACES, needs

pytestmark = [
    pytest.mark.skipif(shutil.which("patchelf") is None, reason=needs("patchelf")),
    pytest.mark.skipif(shutil.which("ldd") is None, reason=needs("patchelf", "ldd")),
    pytest.mark.skipif(os.geteuid() != 0, reason=needs(NAMESPACES, "chroot needs root")),
]


ENTER = 'mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"'


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As it lies in the agent's image."""
    found = tmp_path_factory.mktemp("image") / "node"
    try:
        build(found, sys.executable)
    except BadInput as error:
        pytest.skip(needs("movable Python", str(error)))
    return found


@pytest.fixture(scope="module")
def installed(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the executables, installed as the DaemonSet does it."""
    directory = tmp_path_factory.mktemp("node")
    arguments = ["install", "--bin-dir", str(directory / "bin"), "--carry", str(tree)]
    assert run([*arguments, "--conf-dir", str(directory / "conf")], Surroundings()) == 0
    return directory / "bin"


@pytest.fixture
def call(installed: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run an executable where there is nothing but its directory and /proc."""
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    shutil.copytree(installed, root / installed.relative_to("/"))

    def calling(name: str, netconf: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", ENTER, str(root), str(installed / name)],
            input=json.dumps(netconf),
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], **variables},
        )

    return calling


@pytest.mark.parametrize("name", ["spiderpool", "coordinator", "ifacer"])
def test_every_executable_answers_where_there_is_nothing_else(
    name: str, call: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = call(name, {"cniVersion": "1.0.0"}, CNI_COMMAND="VERSION")

    assert done.returncode == 0, done.stderr
    assert "1.1.0" in json.loads(done.stdout)["supportedVersions"]


def test_a_failure_is_told_there_as_well(
    call: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    netconf = {"cniVersion": "1.0.0", "name": "net", "type": "macvlan", "note": "a \\ b"}
    done = call("spiderpool", netconf, CNI_COMMAND="ADD", CNI_CONTAINERID="c", CNI_IFNAME="eth0")

    assert json.loads(done.stdout)["code"] == 11, done.stderr
    assert "spiderpool-agent" in json.loads(done.stdout)["msg"]


def test_carrying_again_changes_nothing(tree: Path, installed: Path) -> None:
    before = {path.name for path in (installed / HOME_NAME).iterdir()}
    first = (installed / "spiderpool").read_bytes()
    again = carry(tree, installed / HOME_NAME)

    assert {path.name for path in (installed / HOME_NAME).iterdir()} == before
    assert str(again) in first.decode(errors="replace").splitlines()[0]


def test_a_carrying_that_was_killed_is_done_again(tree: Path, tmp_path: Path) -> None:
    place = carry(tree, tmp_path).parents[1]
    shutil.rmtree(place)
    (tmp_path / f".{place.name}.partial").mkdir()

    assert subprocess.run([carry(tree, tmp_path), "-c", "pass"], check=False).returncode == 0


def test_old_trees_are_given_up_but_never_the_newest(tree: Path, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"old-{number}").mkdir()
        os.utime(tmp_path / f"old-{number}", (number, number))
    newest = carry(tree, tmp_path)
    prune(tmp_path)

    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {newest.parents[1].name, "old-3"}
    assert len(kept) == KEPT_MAX


def test_a_place_with_too_long_a_name_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="longer than"):
        carry(tree, tmp_path / ("a" * 120) / ("b" * 120))


def test_removing_takes_the_python_away_too(tree: Path, tmp_path: Path) -> None:
    directory = str(tmp_path / "bin")
    arguments = ["--bin-dir", directory, "--conf-dir", str(tmp_path / "conf")]
    assert run(["install", *arguments, "--carry", str(tree)], Surroundings()) == 0
    assert run(["install", *arguments, "--remove"], Surroundings()) == 0

    assert list(Path(directory).iterdir()) == []
