"""Interpreters that cannot run the executables are refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import BadInput
from ops import installer
from ops.installer import install


def pretender(directory: Path, script: str) -> str:
    """Return the path of a program that answers the probe as ``script`` says."""
    path = directory / "python3"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo $0; echo 3 10; echo complete", "is Python 3.10, too old"),
        ("echo $0; echo 2 7; echo complete", "is Python 2.7, too old"),
        ("echo $0; echo 3 12; echo 'no module _socket' >&2; exit 1", "no module _socket"),
        ("echo $0; echo three twelve; echo complete", "cannot run the executables"),
        ("echo 'Unknown option: -I' >&2; exit 2", "Unknown option: -I"),
        ("exit 0", "exit status 0, nothing said"),
        ("kill -9 $$", "exit status -9"),
        ("printf '\\377\\376'", "cannot run the executables"),
    ],
)
def test_an_unfit_interpreter_is_refused_and_nothing_is_written(
    tmp_path: Path, script: str, complaint: str
) -> None:
    unfit = pretender(tmp_path, script)

    with pytest.raises(BadInput, match=complaint) as refused:
        install(tmp_path / "bin", tmp_path / "conf", interpreter=unfit)

    assert refused.value.subject == unfit
    assert "Python >= 3.11" in refused.value.remedy
    assert not (tmp_path / "bin").exists()


@pytest.mark.parametrize("path", ["/nowhere/python3", "/etc/passwd", "/", ""])
def test_a_path_that_cannot_be_run_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(BadInput, match="cannot be run"):
        install(tmp_path / "bin", tmp_path / "conf", interpreter=path or "no such python")


def test_an_interpreter_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "INTERPRETER_DEADLINE_S", 0.2)
    hung = pretender(tmp_path, "exec sleep 60")

    with pytest.raises(BadInput, match="cannot be run"):
        install(tmp_path / "bin", tmp_path / "conf", interpreter=hung)


def test_an_interpreter_that_needs_the_installers_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_HERE", "1")
    script = 'echo $0; echo 3 12; test -n "$ONLY_HERE" && echo complete'

    with pytest.raises(BadInput, match="cannot run the executables"):
        install(tmp_path / "bin", tmp_path / "conf", interpreter=pretender(tmp_path, script))
