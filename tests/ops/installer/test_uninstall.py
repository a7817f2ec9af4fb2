"""Uninstalling removes installed files and keeps changed files.

The installer's record, a file beside the executables, lists the installed files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import BadInput
from ops import installer
from ops.installer import (
    CNI_EXECUTABLES,
    CONFLIST_NAME,
    RECORD_NAME,
    FileChange,
    install,
    uninstall,
)

CONFLIST = {"cniVersion": "1.1.0", "name": "lan", "plugins": [{"type": "macvlan"}]}


@pytest.fixture
def binaries(tmp_path: Path) -> Path:
    return tmp_path / "bin"


@pytest.fixture
def configurations(tmp_path: Path) -> Path:
    return tmp_path / "net.d"


def test_uninstalling_removes_the_conflist_before_all_other_installed_files(
    binaries: Path, configurations: Path
) -> None:
    install(binaries, configurations, conflist=CONFLIST)
    (binaries / "bridge").write_text("theirs")
    (configurations / "99-theirs.conflist").write_text("{}")

    changes = uninstall(binaries)

    assert changes == (
        FileChange(configurations / CONFLIST_NAME, "removed"),
        *(FileChange(binaries / name, "removed") for name in sorted(CNI_EXECUTABLES)),
    )
    assert [path.name for path in binaries.iterdir()] == ["bridge"]
    assert [path.name for path in configurations.iterdir()] == ["99-theirs.conflist"]


def test_a_changed_file_is_kept_and_reported(binaries: Path, configurations: Path) -> None:
    install(binaries, configurations, conflist=CONFLIST)
    (configurations / CONFLIST_NAME).write_text("edited by hand")
    (binaries / "spiderpool").unlink()
    (binaries / "spiderpool").symlink_to("/bin/true")

    changes = uninstall(binaries)

    assert {change.path.name for change in changes if change.action == "kept"} == {
        CONFLIST_NAME,
        "spiderpool",
    }
    assert (configurations / CONFLIST_NAME).read_text() == "edited by hand"
    assert (binaries / "spiderpool").is_symlink()


def test_a_second_uninstall_changes_nothing(binaries: Path, configurations: Path) -> None:
    install(binaries, configurations, conflist=CONFLIST)
    uninstall(binaries)

    assert uninstall(binaries) == ()
    assert uninstall(binaries / "missing") == ()


def test_a_missing_file_is_reported_as_absent(binaries: Path, configurations: Path) -> None:
    install(binaries, configurations)
    (binaries / "spiderpool").unlink()

    assert FileChange(binaries / "spiderpool", "absent") in uninstall(binaries)


def test_a_conflist_with_an_earlier_name_is_removed(binaries: Path, configurations: Path) -> None:
    install(binaries, configurations, conflist=CONFLIST, conflist_name="05-first.conflist")
    install(binaries, configurations, conflist=CONFLIST)

    uninstall(binaries)

    assert list(configurations.iterdir()) == []


@pytest.mark.parametrize("files_written", [0, 1])
def test_the_files_of_interrupted_upgrades_are_removed(
    binaries: Path, configurations: Path, monkeypatch: pytest.MonkeyPatch, files_written: int
) -> None:
    install(binaries, configurations, conflist=CONFLIST)
    put = installer.put
    for attempt in ("second", "third"):
        # The installer writes its record first, and then the files.
        remaining_writes = iter(range(files_written + 1))

        def put_until_killed(
            path: Path,
            content: bytes,
            mode: int,
            remaining_writes: Iterator[int] = remaining_writes,
        ) -> FileChange:
            if next(remaining_writes, None) is None:
                raise KeyboardInterrupt
            return put(path, content, mode)

        monkeypatch.setattr(installer, "put", put_until_killed)
        # Each upgrade installs another program: the bytes of ``attempt``.
        monkeypatch.setattr(installer, "checked_program", attempt.encode)
        with pytest.raises(KeyboardInterrupt):
            install(binaries, configurations, conflist=CONFLIST | {"name": attempt})

    changes = uninstall(binaries)

    assert {change.action for change in changes} == {"removed"}
    assert [*binaries.iterdir(), *configurations.iterdir()] == []


@pytest.mark.parametrize("text", ["", "[]", '{"files": []}', '{"files": {"/x": 1}}', "\xff"])
def test_an_unreadable_installer_record_is_refused(
    binaries: Path, configurations: Path, text: str
) -> None:
    install(binaries, configurations)
    (binaries / RECORD_NAME).write_text(text)

    with pytest.raises(BadInput, match="not a record"):
        uninstall(binaries)

    assert (binaries / "spiderpool").exists()
