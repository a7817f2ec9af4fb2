"""Sessions of orbctl as users see them.

In a transcript, ``$`` precedes a command, ``|`` a line of its output, and ``#`` a comment.
``ORBCTL_REWRITE=1`` rewrites the transcripts with the current outputs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.orbctl_harness import OrbctlHarness

TRANSCRIPT_FOLDER = Path(__file__).parent / "transcripts"
TRANSCRIPTS = sorted(path.name for path in TRANSCRIPT_FOLDER.glob("*.txt"))


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_a_session_prints_the_output_in_its_transcript(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TRANSCRIPT_FOLDER)
    expected = (TRANSCRIPT_FOLDER / name).read_text("utf-8")
    orbctl = OrbctlHarness(tmp_path / "archive")

    actual = replayed(orbctl, expected)

    if os.environ.get("ORBCTL_REWRITE"):
        (TRANSCRIPT_FOLDER / name).write_text(actual, "utf-8")
    assert actual == expected


def replayed(orbctl: OrbctlHarness, transcript: str) -> str:
    lines: list[str] = []
    for line in transcript.splitlines():
        if line.startswith("$ "):
            lines.append(line)
            lines += (f"| {output}".rstrip() for output in orbctl.type(line[2:]).splitlines())
        elif line.startswith("#") or not line:
            lines.append(line)
    return "\n".join(lines) + "\n"
