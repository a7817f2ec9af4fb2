"""Reads the files and folders of ``-f``. Imports little, so that orbctl starts fast."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from core.errors import BadInput

STANDARD_INPUT: Final = "-"
MANIFEST_SUFFIXES: Final = (".yaml", ".yml", ".json")
"""In a folder, only files with these suffixes are read, as in kubectl."""

READABLE_REMEDY: Final = "give the path of a readable file"

Recursive = Annotated[
    bool, typer.Option("-R", "--recursive", help="read the folders of -f with their subfolders")
]


def read_texts(paths: Sequence[str], *, recursive: bool = False) -> Iterator[tuple[str, str]]:
    """Path and text of each file; "-" is standard input. Raises BadInput."""
    for path in input_files(paths, recursive=recursive):
        yield path, read_text(path)


def input_files(paths: Sequence[str], *, recursive: bool = False) -> Iterator[str]:
    """The paths, with each folder replaced by its manifests. Raises BadInput."""
    for text in paths:
        path = text.removeprefix("=")  # ``-f=FILE`` passes "=FILE"
        if path == STANDARD_INPUT or not Path(path).is_dir():
            yield path
            continue
        folder = Path(path)
        manifests = sorted(
            str(file)
            for file in (folder.rglob("*") if recursive else folder.iterdir())
            if file.suffix in MANIFEST_SUFFIXES and file.is_file()
        )
        if not manifests:
            raise BadInput(
                f"no manifest in {path}",
                subject=path,
                remedy=f"add a file with suffix {' or '.join(MANIFEST_SUFFIXES)},"
                " or use -R for subfolders",
            )
        yield from manifests


def read_text(path: str) -> str:
    """The text of a file; "-" for standard input. Raises BadInput."""
    try:
        return sys.stdin.read() if path == STANDARD_INPUT else Path(path).read_text("utf-8")
    except OSError as error:
        raise BadInput(
            f"cannot read {path}: {error.strerror}", subject=path, remedy=READABLE_REMEDY
        ) from None
    except UnicodeDecodeError:
        raise BadInput(
            f"cannot read {path}: it is not UTF-8 text",
            subject=path,
            remedy="name a text file, or convert the file to UTF-8",
        ) from None
