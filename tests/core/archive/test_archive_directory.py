"""A file of the archive is written completely or not at all, and is never changed.

A *partial* is an unfinished file, with the suffix ``.partial``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.archive.archive_directory import LocalFiles
from core.errors import LogCorrupt


def test_a_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "new" / "directory")
    assert files.names() == []
    assert files.partials() == []
    files.write("b", [b"one", b"two"])
    files.write("a", [b"x"])
    assert files.names() == ["a", "b"]
    assert bytes(files.view("b")) == b"onetwo"


def test_a_file_cannot_be_written_again(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    files.write("a", [b"first"])
    with pytest.raises(FileExistsError):
        files.write("a", [b"second"])
    assert bytes(files.view("a")) == b"first"
    assert files.partials() == []


def test_a_write_that_fails_half_way_leaves_no_file(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise OSError("no space left on device")

    files = LocalFiles(tmp_path)
    with pytest.raises(OSError, match="no space"):
        files.write("a", chunks())
    assert files.names() == files.partials() == []


def test_an_unfinished_file_is_not_among_the_names(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    (tmp_path / "a.0.partial").write_bytes(b"half")
    assert files.names() == []
    assert files.partials() == ["a.0.partial"]
    files.remove("a.0.partial")
    assert files.partials() == []


def test_the_error_names_a_missing_or_empty_file(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    (tmp_path / "empty").touch()
    for name in ("gone", "empty"):
        with pytest.raises(LogCorrupt, match=name):
            files.view(name)
    files.remove("gone")  # no error


def test_a_directory_is_not_listed_and_cannot_be_read_as_a_file(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a.1234.partial").mkdir()

    assert files.names() == []
    assert files.partials() == []
    with pytest.raises(LogCorrupt, match="archive file a cannot be read: Is a directory"):
        files.view("a")
