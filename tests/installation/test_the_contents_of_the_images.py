"""``make sbom`` lists the packages of an image; ``make reproduce-images`` builds equal images."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.installation import images
from tests.installation.images import (
    BUILD_ENGINE,
    DOCUMENTED_REGISTRY,
    IMAGE_TAG,
    RUN_REGISTRY,
    run_program,
)
from tests.packaging.project import PROJECT_ROOT, pinned_versions
from tests.support.parts import MINUTES_FOR_A_BUILD, needs

SITE_PACKAGES: Final = "opt/orbweaver/lib/python3.13/site-packages"
MAKE_SBOM: Final = f"make sbom REGISTRY={DOCUMENTED_REGISTRY}/ TAG={IMAGE_TAG}"
MAKE_REPRODUCE_IMAGES: Final = (
    f"make reproduce-images IMAGES=controller REGISTRY={DOCUMENTED_REGISTRY}/"
)
"""One image is enough: agent and controller share the stage that compiles."""

REPRODUCE_S: Final = 1500.0
DPKG_FORMAT: Final = "${db:Status-Status} ${Package} ${Version}\n"
COMMON_LICENSE: Final = re.compile(r"/usr/share/common-licenses/\w")
"""The path of a license text, in a copyright file."""

PRINTED_DIGEST: Final = re.compile(r"^controller sha256:[0-9a-f]{64}$", re.MULTILINE)

pytestmark = [pytest.mark.containerd, pytest.mark.slow, pytest.mark.timeout(1800)]


class Image(NamedTuple):
    """The file system of an image, and the components of its CycloneDX bill of materials."""

    root: Path
    components: list[dict[str, Any]]

    def packages(self, kind: str) -> dict[tuple[str, str], set[str]]:
        """(name, version) -> licenses; ``kind``: the type of the package URLs, such as deb."""
        return {
            (component["name"], component["version"]): set(
                map(license_of, component.get("licenses", ()))
            )
            for component in self.components
            if component["purl"].startswith(f"pkg:{kind}/")
        }


@pytest.fixture(scope="module", params=["controller", "agent"])
def image(images_are_built: None, request: pytest.FixtureRequest) -> Iterator[Image]:
    images.build(f"{MAKE_SBOM} IMAGES={request.param}")
    bill = json.loads(
        (PROJECT_ROOT / f"build/images/orbweaver-{request.param}.cdx.json").read_text()
    )
    assert bill["metadata"]["component"]["name"] == f"orbweaver-{request.param}"
    with mounted(f"{RUN_REGISTRY}/orbweaver-{request.param}:{IMAGE_TAG}") as root:
        yield Image(root, bill["components"])


def test_the_bill_has_the_debian_packages_of_the_image(image: Image) -> None:
    database = image.root / "var/lib/dpkg"
    listed = run_program(
        "dpkg-query", f"--admindir={database}", "--show", f"--showformat={DPKG_FORMAT}"
    )
    rows = [line.split() for line in listed.splitlines()]
    installed = {(name, version) for status, name, version in rows if status == "installed"}

    assert len(installed) > 80, "dpkg must have read the database of the image"
    assert image.packages("deb").keys() == installed


def test_the_bill_has_the_licenses_of_debian_packages(image: Image) -> None:
    for (name, _), licenses in image.packages("deb").items():
        text = (image.root / "usr/share/doc" / name / "copyright").read_text(errors="replace")
        assert all(license_name.lower() in text.lower() for license_name in licenses)
        # Without a license in the bill, the copyright file must name none.
        if not licenses:
            assert not text.startswith("Format:")
            assert not COMMON_LICENSE.search(text)


def test_the_bill_has_the_python_packages_of_the_image_with_their_licenses(image: Image) -> None:
    installed = {
        (distribution.name, distribution.version): distribution
        for distribution in distributions(path=[str(image.root / SITE_PACKAGES)])
    }
    listed = image.packages("pypi")

    assert listed.keys() == installed.keys()
    assert (
        len(installed) == len(pinned_versions("lock.txt")) + 1
    )  # the pinned packages and Orbweaver
    for key, distribution in installed.items():
        assert listed[key] == licenses_of(distribution)


@pytest.mark.skipif(
    "ORBWEAVER_REPRODUCE_IMAGES" not in os.environ,
    reason=needs(MINUTES_FOR_A_BUILD, "two builds without a cache"),
)
def test_two_builds_without_a_cache_have_equal_digests(run_names_are_removed: None) -> None:
    printed = images.build(MAKE_REPRODUCE_IMAGES, deadline_s=REPRODUCE_S)

    assert PRINTED_DIGEST.search(printed)


@contextmanager
def mounted(name: str) -> Iterator[Path]:
    container = run_program(BUILD_ENGINE, "from", "--pull=never", name).strip()
    try:
        yield Path(run_program(BUILD_ENGINE, "mount", container).strip())
    finally:
        run_program(BUILD_ENGINE, "umount", container)
        run_program(BUILD_ENGINE, "rm", container)


def license_of(entry: dict[str, Any]) -> str:
    """The id, name or expression of a CycloneDX license."""
    if expression := entry.get("expression"):
        return str(expression)
    named = entry["license"]
    return str(named.get("id") or named["name"])


def licenses_of(distribution: Distribution) -> set[str]:
    metadata = distribution.metadata.json
    if named := metadata.get("license_expression") or metadata.get("license"):
        return {str(named)}
    classifiers = metadata.get("classifier", ())
    return {
        classifier.rpartition(" :: ")[2]
        for classifier in classifiers
        if classifier.startswith("License :: OSI")
    }
