"""The static files of the console are complete, local and free of inline scripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import parse as parse_xml

import pytest

from core.domain.events import EVENT_TYPES

STATIC: Final = Path(__file__).resolve().parents[3] / "ops/console/static"
MODULES: Final = sorted(STATIC.rglob("*.js"))
LINES_MAX: Final = 250
LINE_CHARS_MAX: Final = 160

_IMPORT: Final = re.compile(r'^import .*? from "([^"]+)";$', re.MULTILINE | re.DOTALL)
_ADDRESS: Final = re.compile(r"https?://[^\s\"'`]+")
_NAMESPACES: Final = frozenset({"http://www.w3.org/2000/svg"})
_HTML_WRITE_OR_EVAL: Final = re.compile(
    r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b"
)


def imports_of(module: Path) -> set[Path]:
    return {(module.parent / name).resolve() for name in _IMPORT.findall(module.read_text())}


def test_every_module_is_used_and_every_import_exists() -> None:
    reached, pending = set[Path](), {STATIC / "main.js"}
    while pending:
        module = pending.pop()
        assert module.is_file(), module
        reached.add(module)
        pending |= imports_of(module) - reached

    assert reached == set(MODULES)


def test_the_page_uses_local_files_and_no_inline_script_or_style() -> None:
    page = (STATIC / "index.html").read_text()
    names = re.findall(r'(?:href|src)="([^"#]+)"', page)

    assert all((STATIC / name).is_file() for name in names)
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    modules = {path.relative_to(STATIC).as_posix() for path in MODULES}
    assert {name for name in names if name.endswith(".js")} == modules
    styles = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.css")}
    assert {name for name in names if name.endswith(".css")} == styles


@pytest.mark.parametrize(
    "file",
    sorted(path for path in STATIC.rglob("*") if path.is_file()),
    ids=lambda path: str(path.relative_to(STATIC)),
)
def test_a_file_is_short_and_names_no_other_host(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    long_lines = [line for line in text.splitlines() if len(line) > LINE_CHARS_MAX]

    assert set(_ADDRESS.findall(text)) <= _NAMESPACES
    assert "@import" not in text
    assert len(text.splitlines()) <= LINES_MAX
    assert file.suffix != ".js" or not long_lines


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(STATIC)))
def test_a_module_begins_with_a_comment_and_does_not_write_html_or_call_eval(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)

    assert text.startswith("/**")
    assert not _HTML_WRITE_OR_EVAL.search(code)


def test_the_icon_is_a_drawing_without_scripts() -> None:
    names = {node.tag.rpartition("}")[2] for node in parse_xml(STATIC / "icon.svg").iter()}

    assert names <= {"svg", "style", "path", "circle"}


def test_the_filter_of_events_offers_every_event_type() -> None:
    text = (STATIC / "pages/events.js").read_text(encoding="utf-8")
    offered = re.findall(r'"([^"]+)"', text.partition("const KINDS = [")[2].partition("];")[0])

    assert sorted(offered) == sorted(EVENT_TYPES)
