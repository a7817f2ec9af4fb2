"""An image with the programs of a real Spiderpool, under each image name of the charts.

The variable ``SPIDERPOOL_BUILD`` names a directory with ``bin`` and ``chart``;
docs/contributing/testing.md says how to build the directory.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import yaml

from tests.installation import images
from tests.installation.images import BUILD_ENGINE, libraries, run_program

VARIABLE: Final = "SPIDERPOOL_BUILD"
PROGRAMS: Final = (
    *("spiderpool-agent", "spiderpool-controller", "spiderpool-init"),
    *("spiderpool", "coordinator", "ifacer", "multus", "multus-daemon", "multus-shim"),
)
IMAGE_NAMES: Final = (
    "ghcr.io/spidernet-io/spiderpool/spiderpool-agent:v{version}",
    "ghcr.io/spidernet-io/spiderpool/spiderpool-controller:v{version}",
    "ghcr.io/k8snetworkplumbingwg/multus-cni:{multus}",
)
THICK_TAG: Final = "v4.1.4-thick"
"""The tag of Multus' image in Orbweaver's chart."""

INSTALL_MULTUS: Final = "#!/bin/sh\ncp /usr/bin/multus /host/opt/cni/bin/multus\n"
"""A script in place of Multus' program ``install_multus``."""

MULTUS_DIRECTORY: Final = "usr/src/multus-cni/bin"


def build_directory() -> Path | None:
    directory = os.environ.get(VARIABLE, "")
    return Path(directory) if directory else None


def missing_files(directory: Path) -> list[str]:
    required = [directory / "chart/Chart.yaml", *(directory / "bin" / name for name in PROGRAMS)]
    return [str(path) for path in required if not path.exists()]


def image_names(directory: Path) -> list[str]:
    """The names of the image in the charts of Spiderpool and Orbweaver."""
    chart = yaml.safe_load((directory / "chart/Chart.yaml").read_text())
    values = yaml.safe_load((directory / "chart/values.yaml").read_text())
    multus = values["multus"]["multusCNI"]["image"]["tag"]
    thick = f"{images.RUN_REGISTRY}/k8snetworkplumbingwg/multus-cni:{THICK_TAG}"
    named = [image.format(version=chart["appVersion"], multus=multus) for image in IMAGE_NAMES]
    return [*named, thick]


def save_image(directory: Path, archive: Path) -> str:
    """Save an image of all programs as an archive; return the image's name."""
    name = "localhost/spiderpool:test"
    container = run_program(BUILD_ENGINE, "from", images.base()).strip()
    try:
        programs = [directory / "bin" / program for program in PROGRAMS]
        run_program(BUILD_ENGINE, "add", "--quiet", container, *map(str, programs), "/usr/bin/")
        run_program(
            BUILD_ENGINE, "add", "--quiet", container, str(_small_files(archive.parent)), "/"
        )
        jq = Path(shutil.which("jq") or "jq")
        for path in (jq, *libraries(jq)):
            run_program(BUILD_ENGINE, "add", "--quiet", container, str(path.resolve()), str(path))
        run_program(
            BUILD_ENGINE, "commit", "--quiet", container, f"docker-archive:{archive}:{name}"
        )
    finally:
        run_program(BUILD_ENGINE, "rm", container)
    return name


def _small_files(directory: Path) -> Path:
    """Return a directory with the files that the charts expect in Multus' images."""
    tree = directory / "tree"
    (tree / MULTUS_DIRECTORY).mkdir(parents=True)
    for program in ("multus-daemon", "multus-shim"):
        (tree / MULTUS_DIRECTORY / program).symlink_to(f"/usr/bin/{program}")
    (tree / MULTUS_DIRECTORY / "passthru").touch()
    script = tree / "install_multus"
    script.write_text(INSTALL_MULTUS)
    script.chmod(0o755)
    return tree
