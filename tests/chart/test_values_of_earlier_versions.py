"""The templates add the defaults of keys that the values of an earlier chart lack.

`helm upgrade --reuse-values` uses the values.yaml of the installed chart.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.chart.rendering import (
    CHART_FOLDER,
    VALUES_PROFILES,
    Object,
    dump_objects,
    find_object,
    render_objects,
    render_objects_of,
    values_of,
)
from tests.support.yaml_reader import read_yaml

CURRENT_DEFAULTS: Final[Object] = read_yaml((CHART_FOLDER / "values.yaml").read_text())
FIRST_DEFAULTS: Final[Object] = read_yaml((CHART_FOLDER / "files/first-values.yaml").read_text())
"""Defaults of the chart's first version."""

FIRST_ACTION_OF_A_TEMPLATE: Final = '{{- include "orbweaver.values" . '

Key = tuple[str, ...]


@pytest.mark.parametrize("profile", VALUES_PROFILES)
def test_an_upgrade_from_the_first_version_adds_the_defaults_of_later_keys(
    profile: str, tmp_path: Path
) -> None:
    values = values_of(profile)

    upgraded = render_objects_of(chart_with_defaults(FIRST_DEFAULTS, tmp_path), values)

    assert dump_objects(upgraded) == dump_objects(
        render_objects(with_overrides(FIRST_DEFAULTS, values))
    )


def test_a_missing_key_of_an_existing_section_gets_the_default(tmp_path: Path) -> None:
    earlier = copy.deepcopy(CURRENT_DEFAULTS)
    for key in later_keys(CURRENT_DEFAULTS, FIRST_DEFAULTS):
        if "image" not in key:  # the schema requires an image's repository
            remove(earlier, key)

    upgraded = render_objects_of(chart_with_defaults(earlier, tmp_path), {})

    assert earlier["orbweaver"]["console"] == {}
    assert dump_objects(upgraded) == dump_objects(render_objects({}))


def test_a_key_of_the_first_version_that_is_null_stays_removed(tmp_path: Path) -> None:
    chart = chart_with_defaults(FIRST_DEFAULTS, tmp_path)

    upgraded = render_objects_of(chart, {"spiderpoolAgent": {"resources": {"limits": None}}})

    pod = find_object("DaemonSet", "orbweaver-agent", upgraded)["spec"]["template"]["spec"]
    assert {*pod["containers"][0]["resources"]} == {"requests"}


def test_a_later_key_that_is_null_gets_the_default() -> None:
    by_default = dump_objects(render_objects({}))

    assert (
        dump_objects(render_objects({"spiderpoolController": {"thirdParties": None}})) == by_default
    )
    assert (
        dump_objects(render_objects({"spiderpoolController": {"thirdParties": []}})) != by_default
    )


def test_every_template_starts_by_adding_missing_values() -> None:
    templates = [
        path
        for path in (CHART_FOLDER / "templates").rglob("*")
        if path.is_file() and path.suffix != ".tpl"
    ]

    assert [
        path for path in templates if not path.read_text().startswith(FIRST_ACTION_OF_A_TEMPLATE)
    ] == []


def chart_with_defaults(defaults: Object, directory: Path) -> Path:
    """Return a copy of the chart with these values in values.yaml."""
    chart = directory / "orbweaver"
    shutil.copytree(CHART_FOLDER, chart)
    (chart / "values.yaml").write_text(yaml.safe_dump(defaults))
    return chart


def with_overrides(values: Object, overrides: Object) -> Object:
    result = dict(values)
    for key, value in overrides.items():
        old = result.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            result[key] = with_overrides(old, value)
        else:
            result[key] = value
    return result


def later_keys(current: Object, first: Object, path: Key = ()) -> Iterator[Key]:
    """Yield the paths of the values that ``first`` lacks."""
    for key, value in current.items():
        section = first.get(key)
        if isinstance(value, dict) and value:
            first_section = section if isinstance(section, dict) else {}
            yield from later_keys(value, first_section, (*path, key))
        elif key not in first:
            yield (*path, key)


def remove(values: Object, key: Key) -> None:
    *path, last = key
    for name in path:
        values = values[name]
    del values[last]
