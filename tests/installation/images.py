"""Builds the images once per run by the documented ``make images``, from Debian's packages.

The documents' registry gets a path of this run, because all runs on a machine share the builder's
names. The registry of etcd's image cannot be reached: an image of Debian's etcd stands in for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Final

from tests.packaging.project import PROJECT_ROOT

DOCUMENTED_REGISTRY: Final = "registry.example.com"
"""The registry in the documents."""

RUN_NAME: Final = f"run-{uuid.uuid4().hex[:8]}"
RUN_REGISTRY: Final = f"{DOCUMENTED_REGISTRY}/{RUN_NAME}"
KEPT: Final = "localhost/orbweaver-tested"
"""The path of the images that a run leaves, because later builds reuse their layers."""

UNNAMED: Final = "<none>:<none>"
"""How Buildah lists an image without a name."""

IMAGE_TAG: Final = "0.1.0"
ETCD: Final = "quay.io/coreos/etcd:v3.5.26"

BUILT_IMAGES: Final = tuple(
    f"{RUN_REGISTRY}/orbweaver-{name}:{IMAGE_TAG}" for name in ("controller", "agent")
)
BUILD_ENGINE: Final = "buildah"
CERTIFICATES: Final = Path("/etc/ssl/certs")
BUILD_S: Final = 600.0
"""For a first build, which downloads packages; later builds reuse layers."""

DEADLINE_S: Final = 120.0
BUILD_FLAGS: Final = (
    *("--isolation=chroot", "--network=host"),
    # A proxy for packages may need an authority of this machine.
    *("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"),
)


def missing_programs() -> list[str]:
    """Return the programs that a build needs and this machine does not have."""
    return [name for name in (BUILD_ENGINE, "mmdebstrap", "make") if shutil.which(name) is None]


def environment() -> dict[str, str]:
    """Variables with which the documented commands use an engine that works in a container."""
    return {"ENGINE": BUILD_ENGINE, "BASE": "debian", "BUILD_FLAGS": " ".join(BUILD_FLAGS)}


def build(command: str, directory: Path = PROJECT_ROOT, *, deadline_s: float = BUILD_S) -> str:
    """Run a command that builds or reads images in a clone; return its output."""
    done = subprocess.run(
        ["sh", "-ec", with_own_names(command)],
        cwd=directory,
        env=os.environ | environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=deadline_s,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def base() -> str:
    """Return the base image of Debian's packages, which ``build`` has made before."""
    command = ("env", f"ENGINE={BUILD_ENGINE}", str(PROJECT_ROOT / "scripts/images.sh"), "base")
    return run_program(*command).strip()


def with_own_names(script: str) -> str:
    """Return lines of a document with the path of this run in the registry."""
    return script.replace(f"REGISTRY={DOCUMENTED_REGISTRY}/", f"REGISTRY={RUN_REGISTRY}/")


def remove_own_names() -> None:
    """Remove the names of this run. The images stay, each in place of the one of an earlier run.

    Images of a manifest list stay without a name; later builds reuse their layers.
    """
    for name in {name for _, name in _listed() if name.startswith(f"{RUN_REGISTRY}/")}:
        if is_manifest_list(name):
            run_program(BUILD_ENGINE, "manifest", "rm", name)
            continue
        if name.startswith(f"{RUN_REGISTRY}/orbweaver-"):
            _keep(name)
        run_program(BUILD_ENGINE, "rmi", name)


def is_manifest_list(name: str) -> bool:
    """Whether a name is that of a manifest list."""
    command = (BUILD_ENGINE, "manifest", "exists", name)
    return subprocess.run(command, check=False, timeout=DEADLINE_S).returncode == 0


def _keep(name: str) -> None:
    """Give an image the name that stays; remove the image that had it, unless it has another."""
    name_that_stays = f"{KEPT}/{name.rpartition('/')[2]}"
    former = {image for image, listed in _listed() if listed == name_that_stays}
    run_program(BUILD_ENGINE, "tag", name, name_that_stays)
    for image in former & {image for image, listed in _listed() if listed == UNNAMED}:
        run_program(BUILD_ENGINE, "rmi", image)


def _listed() -> list[tuple[str, str]]:
    """Id and name of each image; an image with several names has several entries."""
    rows = run_program(
        BUILD_ENGINE, "images", "--no-trunc", "--format", "{{.ID}} {{.Name}}:{{.Tag}}"
    )
    return [(image, name) for image, name in map(str.split, rows.splitlines())]


def make_etcd() -> None:
    """Make ``ETCD`` of this machine's programs, in the builder's store."""
    container = run_program(BUILD_ENGINE, "from", "scratch").strip()
    try:
        for name in ("etcd", "etcdctl"):
            program = shutil.which(name)
            assert program is not None
            run_program(
                BUILD_ENGINE, "add", "--quiet", container, program, f"/usr/local/bin/{name}"
            )
            for library in libraries(Path(program)):
                target = str(library)
                run_program(
                    BUILD_ENGINE, "add", "--quiet", container, str(library.resolve()), target
                )
        command = ("--env", "PATH=/usr/local/bin", "--cmd", "/usr/local/bin/etcd")
        run_program(BUILD_ENGINE, "config", *command, container)
        run_program(BUILD_ENGINE, "commit", "--quiet", "--timestamp=0", container, ETCD)
    finally:
        run_program(BUILD_ENGINE, "rm", container)


def libraries(program: Path) -> list[Path]:
    """Return the shared libraries of a program; none if it is static."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return sorted({Path(word) for word in words if word.startswith("/")})


def run_program(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
