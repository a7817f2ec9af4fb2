"""A new laboratory removes the remains of killed laboratories and keeps running laboratories."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.lab import identity as lab_identity
from ops.lab.identity import LabFailed, LabIdentity, new_identity
from ops.lab.laboratory import Laboratory
from ops.lab.leftovers import LabResources, remove_dead, resources_of
from ops.lab.namespaces import NamedNamespace
from ops.lab.node import can_create_cgroups, create_pods_cgroup
from tests.support.laboratories import KilledLaboratory, killed_laboratory
from tests.support.parts import CGROUPS, needs

pytestmark = [pytest.mark.etcd, pytest.mark.netns]

DEADLINE_S = 60.0
SCRIPT_THAT_IS_KILLED = """
import os, signal
from ops.lab.laboratory import Laboratory
with Laboratory() as laboratory:
    laboratory.node("node-a")
    laboratory.sandbox("web-0")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed_lab() -> Iterator[KilledLaboratory]:
    with killed_laboratory(SCRIPT_THAT_IS_KILLED) as killed_lab:
        yield killed_lab


def test_a_laboratory_removes_the_remains_of_a_killed_laboratory(
    killed_lab: KilledLaboratory,
) -> None:
    remains = resources_of(killed_lab.identity)
    assert len(remains.namespaces) == 3  # of the fabric, of the node and of the sandbox
    assert remains.directories == (str(killed_lab.identity.directory),)

    killed_lab.reap()
    with Laboratory() as laboratory:
        assert killed_lab.identity in laboratory.removed_laboratories
        assert resources_of(killed_lab.identity) == LabResources()


@pytest.mark.skipif(not can_create_cgroups(), reason=needs(CGROUPS))
def test_programs_in_the_control_groups_of_a_killed_laboratory_are_ended(
    killed_lab: KilledLaboratory,
) -> None:
    control_group = create_pods_cgroup(killed_lab.identity, "node-a")
    with subprocess.Popen(["sleep", "600"], env={}) as program:
        (control_group / "cgroup.procs").write_text(str(program.pid))

        killed_lab.reap()
        remove_dead()

        assert program.wait(DEADLINE_S) == -signal.SIGKILL
    assert resources_of(killed_lab.identity) == LabResources()


def test_resources_do_not_include_a_process_of_another_pid_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = new_identity()
    control_group = tmp_path / identity.name("pods")
    control_group.mkdir()
    # The kernel shows PID 0 for a process of another PID namespace.
    (control_group / "cgroup.procs").write_text("0\n")
    monkeypatch.setattr("ops.lab.leftovers.CONTROL_GROUPS", tmp_path)

    assert resources_of(identity).processes == ()


def processes_end_in_time(identity: LabIdentity) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while resources_of(identity).processes and time.monotonic() < deadline:
        time.sleep(0.05)
    return not resources_of(identity).processes


def test_daemons_do_not_outlive_the_process_that_started_them(killed_lab: KilledLaboratory) -> None:
    # The kernel kills the daemons some time after their parent ends.
    assert processes_end_in_time(killed_lab.identity)


def test_a_running_laboratory_is_not_removed() -> None:
    with Laboratory() as running_lab:
        resources = resources_of(running_lab.identity)

        with Laboratory() as next_lab:
            assert running_lab.identity not in next_lab.removed_laboratories
        remove_dead()

        assert resources_of(running_lab.identity) == resources
        assert running_lab.etcd.daemon.is_running


def test_a_reused_process_id_does_not_protect_remains() -> None:
    identity = new_identity()
    identity.create_directory()
    assert identity.is_alive()
    # A different start time means that the process ID was reused.
    (identity.directory / "started").write_text("1")

    remove_dead()

    assert not identity.directory.exists()


def test_a_directory_is_created_while_another_laboratory_removes_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "laboratories"
    monkeypatch.setattr(lab_identity, "LABORATORIES_FOLDER", folder)
    make_directory = os.mkdir
    removals: list[Path] = []

    def make_directory_and_remove_folder(path: Path, mode: int = 0o777) -> None:
        make_directory(path, mode)
        if path == folder and not removals:
            removals.append(folder)
            folder.rmdir()

    monkeypatch.setattr(os, "mkdir", make_directory_and_remove_folder)
    laboratory = new_identity()
    laboratory.create_directory()

    assert removals == [folder]
    assert laboratory.is_alive()


def test_a_foreign_namespace_is_not_removed() -> None:
    foreign_namespace = NamedNamespace(f"owner-{os.getpid()}-1-web")
    foreign_namespace.create()
    try:
        remove_dead()
        assert foreign_namespace.exists
    finally:
        foreign_namespace.delete()


@pytest.mark.parametrize("name", ["ow-", "ow-12", "web-0", "cni-5f2c", "12", "ow-a-1-x", "x12-1"])
def test_a_foreign_name_has_no_identity(name: str) -> None:
    assert LabIdentity.parse(name) is None


@pytest.mark.parametrize("name", ["ow-12-3-node-a", "ow-12-3-pod-web-0-2", "12-3"])
def test_a_resource_name_contains_the_identity_of_its_laboratory(name: str) -> None:
    assert LabIdentity.parse(name) == LabIdentity(pid=12, serial=3)


def test_the_error_of_a_failed_command_shows_its_arguments_and_output() -> None:
    with pytest.raises(LabFailed, match=r"ip -n nowhere link.*No such file"):
        NamedNamespace("nowhere").ip("link")
