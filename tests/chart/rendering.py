"""Renders the chart with the Python package ``helm_python``, without the program ``helm``.

A profile is a file of Helm values in the chart's ``ci/``; its golden file has the rendered objects.
``python -m tests.chart.rendering`` rewrites the golden files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.yaml_reader import read_all_yaml, read_yaml

PROJECT_ROOT: Final = Path(__file__).parents[2]
CHART_FOLDER: Final = PROJECT_ROOT / "ops/charts/orbweaver"
GOLDEN_FOLDER: Final = Path(__file__).parent / "golden"
CHART_NAMESPACE: Final = "orbweaver"
VALUES_PROFILES: Final = tuple(
    path.name.removesuffix("-values.yaml") for path in sorted((CHART_FOLDER / "ci").iterdir())
)

Object = dict[str, Any]


def values_of(profile: str) -> Object:
    text = (CHART_FOLDER / f"ci/{profile}-values.yaml").read_text()
    return read_yaml(text) or {}


def render_templates(values: Object, chart: Path = CHART_FOLDER) -> dict[str, str]:
    """Template -> rendered text, as ``helm template`` prints it. Raises HelmError."""
    from helm_python import Chart

    with Chart.load(chart) as loaded:
        texts = loaded.render(values, name="orbweaver", namespace=CHART_NAMESPACE)
    return {name.partition("/templates/")[2]: text for name, text in texts.items()}


def images_of(values: Object) -> Iterator[str]:
    for rendered_object in render_objects(values):
        yield from _images(rendered_object)


def _images(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "image" and isinstance(value, str):
                yield value
            yield from _images(value)
    elif isinstance(part, list):
        for value in part:
            yield from _images(value)


def render_objects(values: Object) -> list[Object]:
    return render_objects_of(CHART_FOLDER, values)


def render_objects_of(chart: Path, values: Object) -> list[Object]:
    """Return the objects in the order of template names."""
    texts = render_templates(values, chart)
    rendered: list[Object] = []
    for name in sorted(texts):
        if name.endswith(".yaml"):
            rendered += [item for item in read_all_yaml(texts[name]) if item is not None]
    return rendered


def find_object(kind: str, name: str, among: list[Object]) -> Object:
    """The only object with this kind and name."""
    (match,) = (item for item in among if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return match


def dump_objects(objects: list[Object]) -> str:
    return yaml.safe_dump_all(objects, sort_keys=True, width=100, allow_unicode=True)


if __name__ == "__main__":
    for each in VALUES_PROFILES:
        (GOLDEN_FOLDER / f"{each}.yaml").write_text(dump_objects(render_objects(values_of(each))))
