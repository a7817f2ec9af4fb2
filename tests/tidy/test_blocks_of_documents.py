"""Every code block of the user documents names its language; tests run ``sh`` and ``python``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.packaging.project import PROJECT_ROOT
from tests.support.documents import fenced_blocks

FOLDERS = ("tutorials", "guides", "how-to", "concepts", "reference")
LANGUAGES = {"sh", "python", "console", "text", "yaml", "json"}
"""Tests run ``sh`` and ``python`` unchanged; a reader must adapt ``console``."""

TEST_OF_DOCUMENT = {
    "docs/tutorials/quickstart.md": "tests/ops/lab/test_quickstart.py",
    "docs/tutorials/write-a-workflow.md": "tests/workflows/testing/test_the_tutorial.py",
    "docs/how-to/install.md": "tests/installation/test_the_documented_installation.py",
    "docs/how-to/upgrade.md": "tests/installation/test_the_documented_upgrade.py",
    "docs/how-to/migrate-from-spiderpool.md": (
        "tests/installation/test_the_documented_migration.py"
    ),
    "docs/zh/quickstart.md": "tests/docs/test_translations.py",
    "docs/zh/install.md": "tests/docs/test_translations.py",
    "docs/how-to/uninstall.md": "tests/installation/test_the_documented_installation.py",
}
"""Document -> the test that runs its blocks or checks the translation."""

GUIDES = "docs/guides/"
"""tests/nodes/test_guides.py runs all documents of this folder."""

DOCUMENTS = sorted(
    [
        PROJECT_ROOT / "README.md",
        *(PROJECT_ROOT / "docs").glob("*.md"),
        *(PROJECT_ROOT / "docs/zh").glob("*.md"),
        *(path for name in FOLDERS for path in (PROJECT_ROOT / "docs" / name).glob("*.md")),
    ]
)

PAGES = sorted([*PROJECT_ROOT.glob("*.md"), *(PROJECT_ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_every_block_has_a_known_language_and_valid_yaml(path: Path) -> None:
    for language, text in fenced_blocks(path):
        assert language in LANGUAGES, text
        if language == "yaml":
            list(yaml.safe_load_all(text))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_no_page_has_an_indented_code_block(path: Path) -> None:
    tokens = MarkdownIt().parse(path.read_text("utf-8"))

    assert [token.content for token in tokens if token.type == "code_block"] == []


def test_every_runnable_document_is_named_in_its_test() -> None:
    runnable = {
        str(path.relative_to(PROJECT_ROOT))
        for path in DOCUMENTS
        if any(language in {"sh", "python"} for language, _ in fenced_blocks(path))
    }

    assert {path for path in runnable if not path.startswith(GUIDES)} == set(TEST_OF_DOCUMENT)
    for document, test in TEST_OF_DOCUMENT.items():
        assert Path(document).name in (PROJECT_ROOT / test).read_text("utf-8")
