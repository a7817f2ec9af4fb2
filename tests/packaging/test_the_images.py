"""Base images in the Containerfile and pushed images in Helm values are named by digest."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.chart.rendering import images_of
from tests.packaging.project import PROJECT_ROOT
from tests.support.yaml_reader import read_yaml

PINNED_BASE = re.compile(r"^ARG (\w+)=\S+@sha256:[0-9a-f]{64}$", re.MULTILINE)
FROM = re.compile(r"^FROM (\S+)", re.MULTILINE)
STAGE = re.compile(r"^FROM \S+ AS ([\w-]+)$", re.MULTILINE)


def test_every_base_image_is_named_by_digest() -> None:
    containerfile = (PROJECT_ROOT / "Containerfile").read_text()
    pinned = {
        *STAGE.findall(containerfile),
        *(f"${{{name}}}" for name in PINNED_BASE.findall(containerfile)),
    }

    sources = FROM.findall(containerfile)

    assert sources
    assert set(sources) <= pinned


def test_the_build_context_has_the_build_hook_of_the_wheel() -> None:
    lines = (PROJECT_ROOT / ".dockerignore").read_text("utf-8").splitlines()

    assert "!hatch_build.py" in lines


def test_images_sh_copies_the_etcd_image_of_the_chart() -> None:
    script = (PROJECT_ROOT / "scripts/images.sh").read_text("utf-8")
    values = read_yaml((PROJECT_ROOT / "ops/charts/orbweaver/values.yaml").read_text("utf-8"))
    image = values["etcd"]["embedded"]["image"]

    assert f"ETCD_IMAGE={image['registry']}/{image['repository']}:{image['tag']} " in script


FAKE_ENGINE = """#!/bin/sh
case "$*" in *docker://"$UNREACHABLE"*) exit 125 ;; esac
while [ $# -gt 0 ]; do
    case $1 in
        exists) exit 1 ;;
        --digestfile) echo "$DIGEST" >"$2" ;;
    esac
    shift
done
"""
"""A fake container engine. It cannot copy images whose names start with $UNREACHABLE."""


def test_a_push_writes_values_that_name_every_image_by_digest(tmp_path: Path) -> None:
    digest = f"sha256:{'5' * 64}"

    push(tmp_path, DIGEST=digest).check_returncode()

    values = read_yaml((tmp_path / "values.yaml").read_text("utf-8"))
    assert set(images_of(values)) == {
        f"registry.example.com/mirror/{name}@{digest}"
        for name in ("orbweaver-agent", "orbweaver-controller", "coreos/etcd")
    }


def test_a_push_needs_etcd_source_if_the_etcd_image_is_unreachable(
    tmp_path: Path,
) -> None:
    failed_push = push(tmp_path, UNREACHABLE="quay.io/coreos/etcd")
    has_values = (tmp_path / "values.yaml").exists()
    push_from_mirror = push(
        tmp_path, UNREACHABLE="quay.io/coreos/etcd", ETCD_SOURCE="mirror.example.com/etcd"
    )

    assert failed_push.returncode != 0
    assert "ETCD_SOURCE" in failed_push.stderr
    assert not has_values
    assert push_from_mirror.returncode == 0


def push(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    engine = directory / "engine"
    engine.write_text(FAKE_ENGINE)
    engine.chmod(0o755)
    settings = {
        "ENGINE": str(engine),
        "REGISTRY": "registry.example.com/mirror",
        "TAG": "0.1.0",
        "OUT": str(directory),
        "DIGEST": f"sha256:{'5' * 64}",
        "UNREACHABLE": "none",
    }
    return subprocess.run(
        [str(PROJECT_ROOT / "scripts/images.sh"), "push"],
        env=os.environ | settings | environment,
        check=False,
        capture_output=True,
        text=True,
    )


def test_every_image_has_descriptive_labels() -> None:
    containerfile = (PROJECT_ROOT / "Containerfile").read_text("utf-8")
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)", containerfile))

    assert {"title", "description", "version", "revision", "created", "licenses"} <= labels
