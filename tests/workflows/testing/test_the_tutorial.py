"""The program in docs/tutorials/write-a-workflow.md prints the output that the tutorial shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sybil import Document
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).parents[3]
TUTORIAL = ROOT / "docs/tutorials/write-a-workflow.md"
DEADLINE_S = 60.0


def code_blocks(language: str) -> str:
    document = Document(TUTORIAL.read_text("utf-8"), str(TUTORIAL))
    return "\n\n".join(
        block.lexemes["source"] for block in FencedCodeBlockLexer(language)(document)
    )


def test_the_program_of_the_tutorial_prints_the_output_of_the_tutorial(tmp_path: Path) -> None:
    program = tmp_path / "orders.py"
    program.write_text(code_blocks("python"), "utf-8")

    ran = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )

    assert ran.stdout.strip() == code_blocks("text").strip(), ran.stderr
