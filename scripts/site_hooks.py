"""Hooks of mkdocs (``mkdocs.yml``): pages of the project's root become pages of the site.

GitHub shows SECURITY.md, CONTRIBUTING.md and their like from the root, so they stay there. The site
has them below ``project/``, and links to and from them are rewritten. A link to any other file
outside ``docs/`` is left as it is, so that a strict build reports it.
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
    """Add the pages of the root."""
    for name in ROOT_PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, _site_path(name), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Point links at the places that files have in the site."""
    here = page.file.src_uri
    place = next((name for name in ROOT_PAGES if _site_path(name) == here), f"docs/{here}")

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), match[2]))
        if target in ROOT_PAGES:
            target = f"docs/{_site_path(target)}"
        elif place.startswith("docs/"):
            return match[0]
        relative = posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(here) or ".")
        return f"{match[1]}{relative}"

    return _LINK.sub(moved, markdown)


def _site_path(name: str) -> str:
    return f"project/{name.lower().replace('_', '-')}"
