"""Builds the images once per test run by the documented ``make images``.

Image names contain the name of the test run, because test runs share one image store.
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
RUN_NAME: Final = f"run-{uuid.uuid4().hex[:8]}"
RUN_REGISTRY: Final = f"{DOCUMENTED_REGISTRY}/{RUN_NAME}"
REUSED_PATH: Final = "localhost/orbweaver-tested"
"""The prefix of images that stay after a test run, because later builds reuse the layers."""

UNNAMED: Final = "<none>:<none>"
"""Buildah's text for an image without a name."""

IMAGE_TAG: Final = "0.1.0"
ETCD_IMAGE: Final = "quay.io/coreos/etcd:v3.5.26"

BUILT_IMAGES: Final = tuple(
    f"{RUN_REGISTRY}/orbweaver-{name}:{IMAGE_TAG}" for name in ("controller", "agent")
)
BUILD_ENGINE: Final = "buildah"
CERTIFICATES: Final = Path("/etc/ssl/certs")
BUILD_S: Final = 600.0
"""Long, because the first build downloads packages."""

COMMAND_S: Final = 120.0

BUILD_FLAGS: Final = (
    *("--isolation=chroot", "--network=host"),
    # A package proxy may have a certificate that only this machine trusts.
    *("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"),
)


def missing_programs() -> list[str]:
    return [name for name in (BUILD_ENGINE, "mmdebstrap", "make") if shutil.which(name) is None]


def environment() -> dict[str, str]:
    """Variables that make the documented commands use Buildah, which works in a container."""
    return {"ENGINE": BUILD_ENGINE, "BASE": "debian", "BUILD_FLAGS": " ".join(BUILD_FLAGS)}


def build(command: str, directory: Path = PROJECT_ROOT, *, deadline_s: float = BUILD_S) -> str:
    """Run a documented build command in a clone of the project; return its output."""
    done = subprocess.run(
        ["sh", "-ec", with_run_registry(command)],
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
    """The name of the Debian base image; needs an earlier ``build``."""
    command = ("env", f"ENGINE={BUILD_ENGINE}", str(PROJECT_ROOT / "scripts/images.sh"), "base")
    return run_program(*command).strip()


def with_run_registry(script: str) -> str:
    return script.replace(f"REGISTRY={DOCUMENTED_REGISTRY}/", f"REGISTRY={RUN_REGISTRY}/")


def remove_run_names() -> None:
    """Remove this test run's names from the images.

    An orbweaver image stays under ``REUSED_PATH``; images of a manifest list stay without a name.
    """
    for name in {name for _, name in _image_names() if name.startswith(f"{RUN_REGISTRY}/")}:
        if is_manifest_list(name):
            run_program(BUILD_ENGINE, "manifest", "rm", name)
            continue
        if name.startswith(f"{RUN_REGISTRY}/orbweaver-"):
            _name_for_reuse(name)
        run_program(BUILD_ENGINE, "rmi", name)


def is_manifest_list(name: str) -> bool:
    command = (BUILD_ENGINE, "manifest", "exists", name)
    return subprocess.run(command, check=False, timeout=COMMAND_S).returncode == 0


def _name_for_reuse(name: str) -> None:
    """Name an image in ``REUSED_PATH``; remove the earlier image if it has no other name."""
    reused_name = f"{REUSED_PATH}/{name.rpartition('/')[2]}"
    earlier = {image for image, listed in _image_names() if listed == reused_name}
    run_program(BUILD_ENGINE, "tag", name, reused_name)
    for image in earlier & {image for image, listed in _image_names() if listed == UNNAMED}:
        run_program(BUILD_ENGINE, "rmi", image)


def _image_names() -> list[tuple[str, str]]:
    """(id, name) for each name of each image."""
    rows = run_program(
        BUILD_ENGINE, "images", "--no-trunc", "--format", "{{.ID}} {{.Name}}:{{.Tag}}"
    )
    return [(image, name) for image, name in map(str.split, rows.splitlines())]


def make_etcd() -> None:
    """Make ``ETCD_IMAGE`` from this machine's etcd: tests cannot reach quay.io."""
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
        run_program(BUILD_ENGINE, "commit", "--quiet", "--timestamp=0", container, ETCD_IMAGE)
    finally:
        run_program(BUILD_ENGINE, "rm", container)


def libraries(program: Path) -> list[Path]:
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return sorted({Path(word) for word in words if word.startswith("/")})


def run_program(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_S)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
