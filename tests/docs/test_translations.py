"""The Chinese pages have the same commands as the English pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from sybil import Document
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from tests.tidy.sources import PROJECT_ROOT

TRANSLATIONS = {
    "docs/zh/quickstart.md": "docs/tutorials/quickstart.md",
    "docs/zh/install.md": "docs/how-to/install.md",
}


def fenced_blocks(path: Path) -> list[str]:
    document = Document(path.read_text("utf-8"), str(path))
    return [block.lexemes["source"] for block in FencedCodeBlockLexer(r"[^\n]*")(document)]


@pytest.mark.parametrize("translated", sorted(TRANSLATIONS))
def test_a_translation_has_the_blocks_of_its_original(translated: str) -> None:
    assert fenced_blocks(PROJECT_ROOT / translated) == fenced_blocks(
        PROJECT_ROOT / TRANSLATIONS[translated]
    )


def test_the_chinese_index_links_to_every_guide() -> None:
    text = (PROJECT_ROOT / "docs/zh/index.md").read_text("utf-8")
    guides = {path.name for path in (PROJECT_ROOT / "docs/guides").glob("*.md")}

    missing = {name for name in guides if f"../guides/{name})" not in text}
    # before-you-begin.md is not a guide.
    assert missing == {"before-you-begin.md"}
