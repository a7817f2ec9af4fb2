"""Hooks of mkdocs (``mkdocs.yml``) that add ``ROOT_PAGES`` to the site below ``project/``.

GitHub requires these pages in the root of the repository. Other links to files outside ``docs/``
are not rewritten, so that a strict build reports them.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[1]

ROOT_PAGES: Final = ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")

_LINK: Final = re.compile(r"(\]\()([^)\s:#]+)(?=[)#])")
"""The target of an inline link, without its fragment."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add ``ROOT_PAGES`` to the site."""
    for name in ROOT_PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, _site_path(name), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Rewrite links to and from ``ROOT_PAGES``."""
    site_path = page.file.src_uri
    source_path = next(
        (name for name in ROOT_PAGES if _site_path(name) == site_path), f"docs/{site_path}"
    )

    def rewritten_link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source_path), match[2]))
        if target in ROOT_PAGES:
            target = f"docs/{_site_path(target)}"
        elif source_path.startswith("docs/"):
            return match[0]
        relative = posixpath.relpath(
            target.removeprefix("docs/"), posixpath.dirname(site_path) or "."
        )
        return f"{match[1]}{relative}"

    return _LINK.sub(rewritten_link, markdown)


def _site_path(name: str) -> str:
    return f"project/{name.lower().replace('_', '-')}"
