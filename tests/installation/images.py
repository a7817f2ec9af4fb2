"""Builds the images once per run by the documented ``make images``, from Debian's packages.

The registry of etcd's image is not reachable here: an image of Debian's etcd gets its name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.packaging.project import ROOT

REGISTRY: Final = "registry.example.com"
TAG: Final = "0.1.0"
ETCD: Final = f"{REGISTRY}/coreos/etcd:v3.5.26"
OURS: Final = tuple(f"{REGISTRY}/orbweaver-{name}:{TAG}" for name in ("controller", "agent"))
ENGINE: Final = "buildah"
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
    return [name for name in (ENGINE, "mmdebstrap", "make") if shutil.which(name) is None]


def build(command: str) -> None:
    """Run the document's ``make images``, with an engine that also works in a container."""
    environment = {"ENGINE": ENGINE, "BASE": "debian", "BUILD_FLAGS": " ".join(BUILD_FLAGS)}
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def save(directory: Path) -> list[Path]:
    """Save all images as archives for a runtime; etcd's is made of this machine's program."""
    found = [directory / f"{number}.tar" for number, _ in enumerate(OURS)]
    for name, path in zip(OURS, found, strict=True):
        run_program(ENGINE, "push", "--quiet", name, f"docker-archive:{path}:{name}")
    return [*found, _save_etcd(directory)]


def revision_label(name: str) -> str:
    """Return the commit in the label of an image."""
    inspected = json.loads(run_program(ENGINE, "inspect", "--type", "image", name))
    labels = inspected["OCIv1"]["config"]["Labels"]
    return str(labels["org.opencontainers.image.revision"])


def _save_etcd(directory: Path) -> Path:
    path = directory / "etcd.tar"
    container = run_program(ENGINE, "from", "scratch").strip()
    try:
        for name in ("etcd", "etcdctl"):
            program = shutil.which(name)
            assert program is not None
            run_program(ENGINE, "add", "--quiet", container, program, f"/usr/local/bin/{name}")
            for library in libraries(Path(program)):
                target = str(library)
                run_program(ENGINE, "add", "--quiet", container, str(library.resolve()), target)
        run_program(ENGINE, "config", "--env", "PATH=/usr/local/bin", container)
        run_program(ENGINE, "commit", "--quiet", container, f"docker-archive:{path}:{ETCD}")
    finally:
        run_program(ENGINE, "rm", container)
    return path


def libraries(program: Path) -> list[Path]:
    """Return the shared libraries of a program; none if it is static."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return sorted({Path(word) for word in words if word.startswith("/")})


def run_program(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
