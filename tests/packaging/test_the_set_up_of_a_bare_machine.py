"""The packages that `scripts/setup.sh` installs on a machine without any of the programs."""

import shutil
import subprocess
from pathlib import Path

from tests.support.parts import require_namespaces

SETUP = Path(__file__).parents[2] / "scripts/setup.sh"
USED_BY_THE_SCRIPT = (
    "bash", "cat", "chmod", "dirname", "dpkg", "flock", "grep", "id", "rm", "sed", "sort", "tr"
)  # fmt: skip


def test_every_missing_program_is_asked_for_by_the_name_of_one_package(tmp_path: Path) -> None:
    require_namespaces()  # only root installs packages
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in USED_BY_THE_SCRIPT:
        found = shutil.which(name)
        assert found, f"this test needs {name}"
        (programs / name).symlink_to(found)
    (programs / "apt-cache").symlink_to("/bin/true")
    calls = tmp_path / "calls"
    apt_get = programs / "apt-get"
    apt_get.write_text(f'#!/bin/sh\nprintf "<%s>\\n" "$@" >>{calls}\n[ "$1" != install ]\n')
    apt_get.chmod(0o755)

    done = subprocess.run(
        [SETUP, "dev"],
        env={"PATH": str(programs)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1, done.stderr
    assert "apt-get could not install: " in done.stderr
    names = calls.read_text().splitlines()
    for package in ("etcd-server", "containerd", "buildah", "netavark", "mmdebstrap"):
        assert f"<{package}>" in names
    assert not [name for name in names if " " in name]
