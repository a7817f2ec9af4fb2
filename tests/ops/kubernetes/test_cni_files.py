"""The node's CNI configurations, copied for a controller that does not run as root."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import BadInput
from ops.kubernetes.cni_files import mirror

COMMAND = [sys.executable, "-m", "ops.controller.main", "copy-cni"]


def files(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_new_changed_and_removed_configurations_are_mirrored_and_named(tmp_path: Path) -> None:
    source, target = tmp_path / "node", tmp_path / "copies"
    source.mkdir()
    target.mkdir()
    (source / "10-calico.conflist").write_text("one")
    (source / "README").write_text("text")

    assert mirror(source, target) == ["10-calico.conflist"]
    assert mirror(source, target) == []
    (source / "10-calico.conflist").write_text("two")
    (source / "05-cilium.conf").write_text("three")
    assert mirror(source, target) == ["05-cilium.conf", "10-calico.conflist"]
    (source / "10-calico.conflist").unlink()
    assert mirror(source, target) == ["10-calico.conflist"]

    assert files(target) == {"05-cilium.conf": "three"}
    assert (target / "05-cilium.conf").stat().st_mode & 0o777 == 0o644


def test_copies_stay_if_the_source_directory_cannot_be_read(tmp_path: Path) -> None:
    target = tmp_path / "copies"
    target.mkdir()
    (target / "10-calico.conflist").write_text("one")
    (tmp_path / "node").write_text("a file")

    with pytest.raises(BadInput, match="cannot be read"):
        mirror(tmp_path / "node", target)

    assert files(target) == {"10-calico.conflist": "one"}


def test_copy_cni_with_follow_copies_new_files_until_a_signal(tmp_path: Path) -> None:
    source, target = tmp_path / "node", tmp_path / "copies"
    source.mkdir()
    (source / "05-first.conf").write_text("{}")
    command = [*COMMAND, "--follow", str(source), str(target)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert "05-first.conf" in process.stderr.readline()
            (source / "10-flannel.conflist").write_text("{}")
            assert "10-flannel.conflist" in process.stderr.readline()
        finally:
            process.send_signal(signal.SIGTERM)

    assert process.returncode == 0
    assert files(target).keys() == {"05-first.conf", "10-flannel.conflist"}
