"""A real Spiderpool in the bare cluster, from programs that are built beside the project.

``SPIDERPOOL_BUILD`` names a directory with ``bin`` (controller, agent, init and CNI executables,
and Multus' ``multus``, ``multus-daemon`` and ``multus-shim``) and ``chart``: see
docs/contributing/testing.md. One image has all of it, under the names of the charts' images.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import yaml

from tests.installation import images
from tests.installation.images import ENGINE, libraries, run_program

VARIABLE: Final = "SPIDERPOOL_BUILD"
BASE: Final = "localhost/orbweaver-base:trixie-amd64"
"""Of ``make images BASE=debian``, which is there before."""

PROGRAMS: Final = (
    *("spiderpool-agent", "spiderpool-controller", "spiderpool-init"),
    *("spiderpool", "coordinator", "ifacer", "multus", "multus-daemon", "multus-shim"),
)
IMAGES: Final = (
    "ghcr.io/spidernet-io/spiderpool/spiderpool-agent:v{version}",
    "ghcr.io/spidernet-io/spiderpool/spiderpool-controller:v{version}",
    "ghcr.io/k8snetworkplumbingwg/multus-cni:{multus}",
)
THICK_TAG: Final = "v4.1.4-thick"
"""Of our chart."""

INSTALL_MULTUS: Final = "#!/bin/sh\ncp /usr/bin/multus /host/opt/cni/bin/multus\n"
"""In place of its project's ``install_multus``."""

THICK: Final = "usr/src/multus-cni/bin"


def build_directory() -> Path | None:
    """Where the programs are; None where there are none."""
    place = os.environ.get(VARIABLE, "")
    return Path(place) if place else None


def missing(directory: Path) -> list[str]:
    """What is not there of what this needs."""
    wanted = [directory / "chart/Chart.yaml", *(directory / "bin" / name for name in PROGRAMS)]
    return [str(path) for path in wanted if not path.exists()]


def names(directory: Path) -> list[str]:
    """What the charts call the image."""
    chart = yaml.safe_load((directory / "chart/Chart.yaml").read_text())
    values = yaml.safe_load((directory / "chart/values.yaml").read_text())
    multus = values["multus"]["multusCNI"]["image"]["tag"]
    thick = f"{images.REGISTRY}/k8snetworkplumbingwg/multus-cni:{THICK_TAG}"
    named = [one.format(version=chart["appVersion"], multus=multus) for one in IMAGES]
    return [*named, thick]


def save_image(directory: Path, archive: Path) -> str:
    """One image with every program as an archive; its name."""
    name = "localhost/spiderpool:test"
    container = run_program(ENGINE, "from", BASE).strip()
    try:
        programs = [directory / "bin" / each for each in PROGRAMS]
        run_program(ENGINE, "add", "--quiet", container, *map(str, programs), "/usr/bin/")
        run_program(ENGINE, "add", "--quiet", container, str(_small_files(archive.parent)), "/")
        jq = Path(shutil.which("jq") or "jq")
        for path in (jq, *libraries(jq)):
            run_program(ENGINE, "add", "--quiet", container, str(path.resolve()), str(path))
        run_program(ENGINE, "commit", "--quiet", container, f"docker-archive:{archive}:{name}")
    finally:
        run_program(ENGINE, "rm", container)
    return name


def _small_files(directory: Path) -> Path:
    """A tree with what the charts expect of Multus' images."""
    tree = directory / "tree"
    (tree / THICK).mkdir(parents=True)
    for program in ("multus-daemon", "multus-shim"):
        (tree / THICK / program).symlink_to(f"/usr/bin/{program}")
    (tree / THICK / "passthru").touch()
    script = tree / "install_multus"
    script.write_text(INSTALL_MULTUS)
    script.chmod(0o755)
    return tree
