"""The recipe of the images: what they are made from cannot change under a name."""

from __future__ import annotations

import re

from tests.packaging.project import ROOT

BASE = re.compile(r"^ARG (\w+)=\S+@sha256:[0-9a-f]{64}$", re.MULTILINE)
FROM = re.compile(r"^FROM (\S+)", re.MULTILINE)
STAGE = re.compile(r"^FROM \S+ AS (\w+)$", re.MULTILINE)


def test_every_base_image_is_named_by_its_digest() -> None:
    recipe = (ROOT / "Containerfile").read_text()
    known = {*STAGE.findall(recipe), *(f"${{{name}}}" for name in BASE.findall(recipe))}

    sources = FROM.findall(recipe)

    assert sources
    assert set(sources) <= known
