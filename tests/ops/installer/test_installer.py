"""The installer writes complete files, and writes the conflist last."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from core.errors import BadInput
from ops import installer
from ops.installer import CNI_EXECUTABLES, CONFLIST_NAME, RECORD_NAME, FileChange, install

CONFLIST = {
    "cniVersion": "1.1.0",
    "name": "lan",
    "plugins": [{"type": "macvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}],
}
OTHER_CONFLIST = CONFLIST | {"name": "wan", "plugins": [{"type": "x" * 200_000}]}
WAIT_S = 60


@pytest.fixture
def binaries(tmp_path: Path) -> Path:
    return tmp_path / "opt" / "cni" / "bin"


@pytest.fixture
def configurations(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "cni" / "net.d"


def names_in(*directories: Path) -> list[str]:
    return sorted(path.name for directory in directories for path in directory.iterdir())


def names_and_actions(changes: tuple[FileChange, ...]) -> list[tuple[str, str]]:
    return [(change.path.name, change.action) for change in changes]


def all_files_with(action: str, *other_files: str) -> list[tuple[str, str]]:
    return [(name, action) for name in (*CNI_EXECUTABLES, *other_files)]


def file_stamps(*directories: Path) -> dict[Path, tuple[int, int]]:
    """Inode and change time of each file. Writing a file changes both."""
    files = [path for directory in directories for path in directory.iterdir()]
    return {path: (path.stat().st_ino, path.stat().st_ctime_ns) for path in files}


def test_a_new_node_gets_working_executables_before_the_conflist(
    binaries: Path, configurations: Path
) -> None:
    changes = install(binaries, configurations, conflist=CONFLIST)

    assert names_and_actions(changes) == all_files_with("created", CONFLIST_NAME)
    version = subprocess.run(
        [binaries / "spiderpool"],
        env={"CNI_COMMAND": "VERSION"},
        input=b"{}",
        capture_output=True,
        check=True,
        timeout=WAIT_S,
    )
    assert "1.1.0" in json.loads(version.stdout)["supportedVersions"]
    conflist_path = configurations / CONFLIST_NAME
    assert json.loads(conflist_path.read_bytes()) == CONFLIST
    assert (binaries / "spiderpool").stat().st_mode & 0o777 == 0o755
    assert conflist_path.stat().st_mode & 0o777 == 0o600
    assert names_in(binaries, configurations) == [
        RECORD_NAME,
        CONFLIST_NAME,
        *sorted(CNI_EXECUTABLES),
    ]


def test_the_configuration_folder_is_not_created_without_a_conflist(
    binaries: Path, configurations: Path
) -> None:
    changes = install(binaries, configurations)

    assert names_and_actions(changes) == all_files_with("created")
    assert not configurations.exists()


def test_correct_files_are_not_written_again(binaries: Path, configurations: Path) -> None:
    install(binaries, configurations, conflist=CONFLIST)
    stamps_before = file_stamps(binaries, configurations)

    changes = install(binaries, configurations, conflist=CONFLIST)

    assert names_and_actions(changes) == all_files_with("unchanged", CONFLIST_NAME)
    assert file_stamps(binaries, configurations) == stamps_before


def test_a_damaged_file_is_replaced(binaries: Path, configurations: Path) -> None:
    install(binaries, configurations, conflist=CONFLIST)
    original = (binaries / "spiderpool").read_bytes()
    (binaries / "spiderpool").write_bytes(original[:100])
    (configurations / CONFLIST_NAME).chmod(0o644)

    changes = install(binaries, configurations, conflist=CONFLIST)

    assert names_and_actions(changes) == [
        (name, "replaced" if name in ("spiderpool", CONFLIST_NAME) else "unchanged")
        for name in (*CNI_EXECUTABLES, CONFLIST_NAME)
    ]
    assert (binaries / "spiderpool").read_bytes() == original
    assert (configurations / CONFLIST_NAME).stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_is_replaced_and_its_target_is_not_touched(
    binaries: Path, configurations: Path, tmp_path: Path
) -> None:
    link_target = tmp_path / "elsewhere"
    link_target.write_text("theirs")
    binaries.mkdir(parents=True)
    (binaries / "spiderpool").symlink_to(link_target)

    changes = install(binaries, configurations)

    assert ("spiderpool", "replaced") in names_and_actions(changes)
    assert not (binaries / "spiderpool").is_symlink()
    assert link_target.read_text() == "theirs"


def test_temporary_files_of_a_killed_installer_are_removed(
    binaries: Path, configurations: Path
) -> None:
    binaries.mkdir(parents=True)
    (binaries / ".spiderpool.orbweaver-tmp").write_text("half")

    install(binaries, configurations)

    assert names_in(binaries) == [RECORD_NAME, *sorted(CNI_EXECUTABLES)]


def test_a_reader_never_sees_a_partly_written_conflist(
    binaries: Path, configurations: Path
) -> None:
    install(binaries, configurations, conflist=CONFLIST)
    path = configurations / CONFLIST_NAME
    complete_contents = {
        installer.conflist_bytes(CONFLIST),
        installer.conflist_bytes(OTHER_CONFLIST),
    }
    stop = threading.Event()
    contents: set[bytes] = set()

    def read() -> None:
        while not stop.is_set():
            contents.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for conflist in [OTHER_CONFLIST, CONFLIST] * 30:
            content = installer.conflist_bytes(conflist)
            installer.put(path, content, installer.CONFLIST_MODE)
    finally:
        stop.set()
        reader.join(WAIT_S)

    assert contents
    assert contents <= complete_contents


def test_a_running_executable_can_be_replaced(binaries: Path, configurations: Path) -> None:
    install(binaries, configurations)
    running = subprocess.Popen(
        [binaries / "spiderpool"],
        env={"CNI_COMMAND": "ADD"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    (binaries / "spiderpool").chmod(0o700)

    changes = install(binaries, configurations)
    stdout, _ = running.communicate(b'{"ipam":{"ipam_unix_socket_path":"/nowhere"}}', WAIT_S)

    assert ("spiderpool", "replaced") in names_and_actions(changes)
    # Code 11 means that the running program did not reach the agent.
    assert json.loads(stdout)["code"] == 11


def test_concurrent_installers_leave_one_complete_installation(
    binaries: Path, configurations: Path
) -> None:
    failures: list[Exception] = []

    def run(conflist: dict[str, Any]) -> None:
        try:
            install(binaries, configurations, conflist=conflist)
        except Exception as error:  # noqa: BLE001 - any exception must fail the test
            failures.append(error)

    threads = [
        threading.Thread(target=run, args=[conflist]) for conflist in [CONFLIST, OTHER_CONFLIST] * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)

    assert failures == []
    assert names_in(binaries, configurations) == [
        RECORD_NAME,
        CONFLIST_NAME,
        *sorted(CNI_EXECUTABLES),
    ]
    stored = json.loads((configurations / CONFLIST_NAME).read_bytes())
    assert stored in (CONFLIST, OTHER_CONFLIST)


def test_a_full_file_system_leaves_the_old_file_and_no_temporary_file(
    binaries: Path, configurations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(binaries, configurations, conflist=CONFLIST)

    def fail_as_if_full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail_as_if_full)
    with pytest.raises(OSError, match="No space left"):
        installer.put(configurations / CONFLIST_NAME, b"new", 0o600)

    assert json.loads((configurations / CONFLIST_NAME).read_bytes()) == CONFLIST
    assert names_in(configurations) == [CONFLIST_NAME]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cniVersion": None}, "cniVersion"),
        ({"cniVersion": 1}, "cniVersion"),
        ({"name": ""}, "name"),
        ({"plugins": []}, "plugins"),
        ({"plugins": {"type": "macvlan"}}, "plugins"),
        ({"plugins": [{"ipam": {}}]}, "plugins"),
        ({"plugins": ["macvlan"]}, "plugins"),
    ],
)
def test_an_invalid_conflist_is_refused_before_a_file_is_written(
    binaries: Path, configurations: Path, change: dict[str, object], field: str
) -> None:
    with pytest.raises(BadInput, match=field) as refused:
        install(binaries, configurations, conflist=CONFLIST | change)

    assert refused.value.subject == field
    assert not binaries.exists()


@pytest.mark.parametrize("name", ["", "a.json", "../a.conflist", "a/b.conflist", ".conflist"])
def test_an_invalid_conflist_name_is_refused_before_a_file_is_written(
    binaries: Path, configurations: Path, name: str
) -> None:
    with pytest.raises(BadInput, match="not the name"):
        install(binaries, configurations, conflist=CONFLIST, conflist_name=name)

    assert not binaries.exists()


def test_a_program_for_another_architecture_is_refused_before_a_file_is_written(
    binaries: Path, configurations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign_program = tmp_path / "plugin"
    foreign_program.write_bytes(b"\x7fELF of another architecture")
    foreign_program.chmod(0o755)
    monkeypatch.setattr(installer, "PROGRAM_PATH", foreign_program)

    with pytest.raises(BadInput, match="cannot be run"):
        install(binaries, configurations)

    assert not binaries.exists()
