"""The recipe of the images: what they are made from cannot change under a name."""

from __future__ import annotations

import re

import yaml

from tests.packaging.project import ROOT

BASE = re.compile(r"^ARG (\w+)=\S+@sha256:[0-9a-f]{64}$", re.MULTILINE)
FROM = re.compile(r"^FROM (\S+)", re.MULTILINE)
STAGE = re.compile(r"^FROM \S+ AS ([\w-]+)$", re.MULTILINE)


def test_every_base_image_is_named_by_its_digest() -> None:
    recipe = (ROOT / "Containerfile").read_text()
    known = {*STAGE.findall(recipe), *(f"${{{name}}}" for name in BASE.findall(recipe))}

    sources = FROM.findall(recipe)

    assert sources
    assert set(sources) <= known


def test_the_builder_is_sent_all_that_builds_the_wheel() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()

    assert "!hatch_build.py" in lines


def test_the_copied_etcd_is_the_one_that_the_chart_names() -> None:
    script = (ROOT / "scripts/images.sh").read_text("utf-8")
    values = yaml.safe_load((ROOT / "ops/charts/orbweaver/values.yaml").read_text("utf-8"))
    image = values["etcd"]["embedded"]["image"]

    assert f"ETCD_IMAGE={image['registry']}/{image['repository']}:{image['tag']} " in script


def test_every_image_says_what_it_is() -> None:
    recipe = (ROOT / "Containerfile").read_text("utf-8")
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)", recipe))

    assert {"title", "description", "version", "revision", "created", "licenses"} <= labels
