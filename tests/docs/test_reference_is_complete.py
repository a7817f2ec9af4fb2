"""The reference pages list the code's settings, keys, error codes and chart values."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from core.settings.conf_file import ConfFile, OrbweaverConf
from nodeagent.cni_protocol import failures
from scripts.reference.chart_values import chart_values
from scripts.reference.commands import commands
from tests.support.yaml_reader import read_yaml
from tests.tidy.sources import PRODUCT_PACKAGES, PROJECT_ROOT, python_sources

REFERENCE: Final = PROJECT_ROOT / "docs" / "reference"
VARIABLE: Final = re.compile(r"(?:SPIDERPOOL|ORBWEAVER|MULTUS)_[A-Z0-9_]+")
IN_BACKQUOTES: Final = re.compile(r"`([^`]+)`")
ROW_CODE: Final = re.compile(r"^\| ([\d, ]+) \|", re.MULTILINE)

INTERNAL_VARIABLES: Final = frozenset({"ORBWEAVER_LAB", "ORBWEAVER_PLUGIN", "ORBWEAVER_WHO"})
"""Variables that our programs set, not users."""

CODES_OF_THE_EXECUTABLE: Final = frozenset({5, 100})
"""Error codes that only the C program (``cni/plugin.c``) prints."""


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def variables_in_code() -> set[str]:
    """The environment variables that the product's strings name."""
    return {
        node.value
        for source in python_sources()
        if source.package in PRODUCT_PACKAGES
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if VARIABLE.fullmatch(node.value)
    }


def test_the_pages_have_every_environment_variable_of_the_code_and_no_other() -> None:
    text = page("configuration.md") + page("orbctl.md") + page("orbctl-commands.md")
    read_by_code = variables_in_code()

    assert read_by_code - INTERNAL_VARIABLES - set(VARIABLE.findall(text)) == set()
    assert set(VARIABLE.findall(page("configuration.md"))) - read_by_code == set()


def test_every_key_of_the_configuration_file_is_on_the_page() -> None:
    names_on_page = {
        part.strip(".")
        for text in IN_BACKQUOTES.findall(page("configuration.md"))
        for part in (text, text.rpartition(".")[2], text.partition(".")[0])
    }
    keys = {
        field.encode_name
        for model in (ConfFile, OrbweaverConf)
        for field in msgspec.structs.fields(model)
    }

    assert keys - names_on_page == set()


def test_the_errors_page_lists_exactly_the_error_codes() -> None:
    codes = {value for value in vars(failures).values() if isinstance(value, int)}
    listed_codes = {
        int(code)
        for cell in ROW_CODE.findall(page("errors.md").partition("## Exit")[0])
        for code in cell.split(",")
    }

    assert listed_codes == codes | CODES_OF_THE_EXECUTABLE


def leaf_paths(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaf_paths(value, (*above, name))
        else:
            yield (*above, name)


def test_every_value_of_the_chart_is_on_the_page() -> None:
    values = read_yaml((PROJECT_ROOT / "ops/charts/orbweaver/values.yaml").read_text("utf-8"))
    text = page("helm-values.md")
    missing = []
    for path in leaf_paths(values):
        heading = path[0] if path[1:] else "Accepted without effect"
        _, _, section = text.partition(f"\n## {heading}\n")
        words = {
            word
            for quoted in IN_BACKQUOTES.findall(section.partition("\n## ")[0])
            for word in re.split(r"[.*]", quoted)
        }
        if not words.intersection(path[1:] or path):
            missing.append(".".join(path))

    assert missing == []


def test_every_value_of_the_chart_has_a_description() -> None:
    rows = [line for line in chart_values().splitlines() if line.startswith("| `")]

    assert [row for row in rows if not row.rpartition("|")[0].rpartition("|")[2].strip()] == []


def test_the_commands_page_shows_a_default_of_zero_but_not_that_of_a_flag() -> None:
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in commands_rows()}

    assert rows["`--after NUMBER`"] == "`0`"
    assert rows["`--raw`"] == ""


def commands_rows() -> list[str]:
    _, _, section = commands().partition("### orbctl export\n")
    return [line for line in section.partition("\n### ")[0].splitlines() if "`--" in line]
