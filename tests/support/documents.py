"""Reads the code blocks of documents; tests run the blocks marked ``sh`` unchanged.

A ``text`` block directly after an ``sh`` block shows its output; ``Page.write`` replaces outputs.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

RUNNABLE = "sh"
OUTPUT: Final = "text"
UNDO: Final = "## Undo"
"""The heading above the steps that undo all earlier steps."""

COMMAND_S: Final = 300.0

VARYING_TEXTS: Final = (
    (re.compile(r"-[a-f0-9]{5,10}-[a-z0-9]{5}\b"), "-POD"),
    (re.compile(r"\b(?:\d+[dhms]){1,2}(?= |$)", re.MULTILINE), "AGE"),
    (re.compile(r"\b[\d.]+(?:/[\d.]+)* ms\b"), "MS"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UID"),
    (re.compile(r"\bveth[0-9a-f]{11}\b"), "VETH"),
    (re.compile(r"(?<= )(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "MAC"),
    (re.compile(r"\bnode-[ab]$", re.MULTILINE), "NODE"),
    (re.compile(r"\b192\.0\.2\.\d+\b"), "NODE"),
    (re.compile(r"@if\d+"), "@IF"),
    (re.compile(r" +"), " "),
)
"""Patterns of text that differs from run to run, with replacements."""


class Step(NamedTuple):
    """Lines to run, and the output that the document shows, or None."""

    script: str
    output: str | None


class Page:
    """A document whose steps can be run and whose outputs can be rewritten."""

    def __init__(self, path: Path) -> None:
        self._path = path
        document = Document(path.read_text("utf-8"), str(path))
        self._blocks = list(FencedCodeBlockLexer(r"[^\n]*")(document))

    @property
    def steps(self) -> list[Step]:
        return [
            Step(block.lexemes["source"], output)
            for block, output in zip(self._blocks, self._outputs(), strict=True)
            if block.lexemes["language"] == RUNNABLE
        ]

    @property
    def step_count_before_undo(self) -> int:
        end = self._path.read_text("utf-8").find(f"\n{UNDO}\n")
        assert end >= 0, f"{self._path.name} has no heading {UNDO!r}"
        return sum(
            block.start < end for block in self._blocks if block.lexemes["language"] == RUNNABLE
        )

    def write(self, outputs: Sequence[str]) -> None:
        """Replace the outputs that the document shows. ``outputs``: one for each step."""
        text = self._path.read_text("utf-8")
        remaining_outputs = iter(outputs)
        changes = []
        for index, source in enumerate(self._blocks):
            if source.lexemes["language"] != RUNNABLE:
                continue
            output = next(remaining_outputs)
            if self._outputs()[index] is not None:
                output_block = self._blocks[index + 1]
                changes.append(
                    (output_block.start, output_block.end, f"```{OUTPUT}\n{output.rstrip()}\n```")
                )
        for start, end, block in reversed(changes):
            text = text[:start] + block + text[end:]
        self._path.write_text(text, "utf-8")

    def _outputs(self) -> list[str | None]:
        """For each block, the ``text`` block that follows, or None."""
        following = [*self._blocks[1:], None]
        return [
            str(block.lexemes["source"])
            if block is not None and block.lexemes["language"] == OUTPUT
            else None
            for block in following
        ]


def fenced_blocks(path: Path) -> list[tuple[str, str]]:
    document = Document(path.read_text("utf-8"), str(path))
    lexer = FencedCodeBlockLexer(r"[^\n]*")
    return [(block.lexemes["language"], block.lexemes["source"]) for block in lexer(document)]


def shell_blocks(path: Path) -> list[str]:
    parser = CodeBlockParser(RUNNABLE, _read)
    document = Document.parse(str(path), parser)
    return [str(example.parsed) for example in document.examples()]


def comparable_lines(text: str) -> list[str]:
    for pattern, word in VARYING_TEXTS:
        text = pattern.sub(word, text)
    return [line.strip() for line in text.strip().splitlines()]


def run_script(
    inside: Sequence[str],
    script: str,
    environment: Mapping[str, str],
    directory: Path,
    deadline_s: float = COMMAND_S,
) -> subprocess.CompletedProcess[str]:
    """Run lines of a document with bash -e; return standard output and error together.

    ``inside``: the beginning of the command, such as ``ip netns exec NAME``.
    """
    return subprocess.run(
        [*inside, "bash", "-e", "-c", script],
        cwd=directory,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=deadline_s,
    )


def _read(_: Example) -> None:
    """Do nothing: Sybil needs an evaluator, but tests run whole documents."""
