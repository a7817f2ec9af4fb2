"""``make images PLATFORMS=linux/amd64,linux/arm64`` makes a manifest list per process.

The tests need the variable ``ORBWEAVER_TWO_ARCHITECTURES`` and an emulation of arm64
(qemu-aarch64). The first build takes most of an hour.
"""

from __future__ import annotations

import json
import os
import platform
import resource
from pathlib import Path
from typing import Final

import pytest

from tests.installation import images
from tests.installation.images import BUILD_ENGINE, DOCUMENTED_REGISTRY, RUN_REGISTRY, run_program
from tests.support.parts import BINFMT, MINUTES_FOR_A_BUILD, needs

VARIABLE: Final = "ORBWEAVER_TWO_ARCHITECTURES"
TAG: Final = "two"
PROCESSES: Final = ("controller", "agent")
LIST_NAMES: Final = tuple(f"{RUN_REGISTRY}/orbweaver-{name}:{TAG}" for name in PROCESSES)
COMMAND: Final = (
    f"make images REGISTRY={DOCUMENTED_REGISTRY}/ TAG={TAG} PLATFORMS=linux/amd64,linux/arm64"
)
ELF_MACHINE: Final = """
import cni, pathlib
print(pathlib.Path(cni.__file__).with_name("plugin").read_bytes()[18])
"""
"""Prints ``e_machine`` of the CNI program's ELF header."""

EM_AARCH64: Final = 183
FORMATS: Final = Path("/proc/sys/fs/binfmt_misc")
BUILD_S: Final = 7_200.0

pytestmark = [pytest.mark.containerd, pytest.mark.slow, pytest.mark.timeout(BUILD_S)]


@pytest.fixture(scope="module")
def digests_by_list(run_names_are_removed: None) -> dict[str, dict[str, str]]:
    """Name of a manifest list -> architecture -> digest of the image."""
    if VARIABLE not in os.environ:
        pytest.skip(needs(MINUTES_FOR_A_BUILD, f"{VARIABLE} is not set"))
    if platform.machine() == "aarch64" or not (FORMATS / "qemu-aarch64").exists():
        pytest.skip(needs(BINFMT, f"no qemu-aarch64 in {FORMATS}"))
    images.build(COMMAND, deadline_s=BUILD_S)
    return {name: digest_by_architecture(name) for name in LIST_NAMES}


def test_each_list_has_an_image_of_both_architectures(
    digests_by_list: dict[str, dict[str, str]],
) -> None:
    assert {name: set(digests) for name, digests in digests_by_list.items()} == {
        name: {"amd64", "arm64"} for name in LIST_NAMES
    }


# Names differ between the workers of pytest-xdist, but test ids must not.
@pytest.mark.parametrize("name", LIST_NAMES, ids=PROCESSES)
def test_orbctl_and_the_cni_program_of_an_arm64_image_are_for_arm64(
    digests_by_list: dict[str, dict[str, str]], name: str
) -> None:
    image = image_id_of(digests_by_list[name]["arm64"])
    container = run_program(BUILD_ENGINE, "from", "--pull=never", *limits(), image).strip()
    try:
        run = (BUILD_ENGINE, "run", "--isolation=chroot", container, "--")
        machine = run_program(*run, "python", "-c", "import platform; print(platform.machine())")
        version = run_program(*run, "orbctl", "version", "-o", "json")
        plugin = run_program(*run, "python", "-c", ELF_MACHINE)
    finally:
        run_program(BUILD_ENGINE, "rm", container)

    assert machine.strip() == "aarch64"
    assert json.loads(version)
    assert int(plugin) == EM_AARCH64


def image_id_of(digest: str) -> str:
    rows = run_program(
        BUILD_ENGINE, "images", "--all", "--no-trunc", "--format", "{{.Digest}} {{.ID}}"
    )
    return next(row.split()[1] for row in rows.splitlines() if row.startswith(digest))


def limits() -> list[str]:
    """The current soft limits as flags: this process may not raise limits."""
    known = (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))
    soft = {name: resource.getrlimit(limit)[0] for name, limit in known}
    return [f"--ulimit={name}={value}:{value}" for name, value in soft.items()]


def digest_by_architecture(name: str) -> dict[str, str]:
    manifest_list = json.loads(run_program(BUILD_ENGINE, "manifest", "inspect", name))
    return {
        image["platform"]["architecture"]: image["digest"] for image in manifest_list["manifests"]
    }
