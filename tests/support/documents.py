"""Blocks of the documents, by Sybil: those marked ``sh`` are run by tests, word for word."""

from __future__ import annotations

from pathlib import Path

from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser

RUNNABLE = "sh"


def shell_blocks(path: Path) -> list[str]:
    """The runnable blocks of a document, in their order."""
    parser = CodeBlockParser(RUNNABLE, _read)
    document = Document.parse(str(path), parser)
    return [str(example.parsed) for example in document.examples()]


def _read(_: Example) -> None:
    """Blocks are run by those who ask for them, not one by one."""
