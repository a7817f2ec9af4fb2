"""The site builds without a warning, and no page loads anything from another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parts import require_site_packages
from tests.tidy.sources import PROJECT_ROOT

DEADLINE_S = 100.0
LOADED_URL = re.compile(
    r"<(?:link|script|img|iframe|source|video|audio)\b[^>]*?(?:href|src)=\"?([^\s\">]+)"
)
"""Matches URLs that a browser loads with a page, but not the targets of ``<a>``."""

FOREIGN_STYLE_URL = re.compile(r"(?:url\(|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_site_packages()
    folder = tmp_path_factory.mktemp("site")
    completed = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=PROJECT_ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return folder


def test_every_page_links_to_pages_and_headings_that_exist(site: Path) -> None:
    # A broken link fails the fixture, which builds with --strict.
    assert (site / "index.html").exists()
    assert (site / "search" / "search_index.json").stat().st_size > 0


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loaded_urls = {
        f"{page.relative_to(site)}: {target}"
        for page in site.rglob("*.html")
        for target in LOADED_URL.findall(page.read_text(encoding="utf-8"))
        if "//" in target
    }
    stylesheet_urls = {
        f"{sheet.relative_to(site)}: {target}"
        for sheet in site.rglob("*.css")
        for target in FOREIGN_STYLE_URL.findall(sheet.read_text(encoding="utf-8"))
    }

    assert loaded_urls | stylesheet_urls == set()
