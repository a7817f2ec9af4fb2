"""The CRDs in the charts equal the generated CRDs, and describe every field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.manifests.crds.names_and_columns import (
    CUSTOM_RESOURCE_KINDS,
    CustomResourceKind,
    definition_of,
)
from core.manifests.crds.sriov import SRIOV_KINDS
from core.manifests.crds.structural import Schema
from tests.support.yaml_reader import read_yaml

CHARTS = Path(__file__).parents[3] / "ops/charts"
CRD_TEMPLATES = CHARTS / "orbweaver-crds/templates"
SRIOV_FILES = CHARTS / "orbweaver/files"


@pytest.mark.parametrize(
    "kind", CUSTOM_RESOURCE_KINDS, ids=[kind.plural for kind in CUSTOM_RESOURCE_KINDS]
)
def test_the_committed_definition_equals_the_generated_one(kind: CustomResourceKind) -> None:
    committed = read_yaml((CRD_TEMPLATES / f"{kind.plural}.yaml").read_text())

    assert committed == definition_of(kind), "run `orbctl crds --directory` on the chart"


@pytest.mark.parametrize("kind", SRIOV_KINDS, ids=[kind.plural for kind in SRIOV_KINDS])
def test_the_committed_sriov_definition_equals_the_generated_one(kind: CustomResourceKind) -> None:
    committed = read_yaml((SRIOV_FILES / f"{kind.plural}.yaml").read_text())

    assert committed == definition_of(kind), "run `orbctl crds --sriov --directory` on the files"


def test_the_crd_chart_has_one_template_for_each_kind() -> None:
    assert {path.stem for path in CRD_TEMPLATES.iterdir()} == {
        kind.plural for kind in CUSTOM_RESOURCE_KINDS
    }


@pytest.mark.parametrize(
    "kind",
    [*CUSTOM_RESOURCE_KINDS, *SRIOV_KINDS],
    ids=[kind.plural for kind in (*CUSTOM_RESOURCE_KINDS, *SRIOV_KINDS)],
)
def test_every_field_has_a_description(kind: CustomResourceKind) -> None:
    (version,) = definition_of(kind)["spec"]["versions"]
    root = version["schema"]["openAPIV3Schema"]

    undescribed = [path for path, schema in fields_of(root, "") if not schema.get("description")]

    assert undescribed == [".metadata"]  # the API server describes this field


def fields_of(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield the path and schema of every property below the schema at ``path``."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from fields_of(inner, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from fields_of(schema[keyword], f"{path}[]")
