"""`scripts/setup.sh` passes the packages of all missing programs to apt-get.

The fake apt-get of this test writes its arguments into a file, and ``install`` fails.
"""

import shutil
import subprocess
from pathlib import Path

from tests.support.parts import require_namespaces

SETUP = Path(__file__).parents[2] / "scripts/setup.sh"
USED_BY_THE_SCRIPT = (
    "bash", "cat", "chmod", "dirname", "dpkg", "flock", "grep", "id", "rm", "sed", "sort", "tr"
)  # fmt: skip


def test_every_missing_package_is_a_separate_argument_of_apt_get(tmp_path: Path) -> None:
    require_namespaces()  # the script installs packages only as root
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in USED_BY_THE_SCRIPT:
        path = shutil.which(name)
        assert path, f"this test needs {name}"
        (programs / name).symlink_to(path)
    (programs / "apt-cache").symlink_to("/bin/true")  # as if each package existed
    arguments = tmp_path / "arguments"
    apt_get = programs / "apt-get"
    apt_get.write_text(f'#!/bin/sh\nprintf "<%s>\\n" "$@" >>{arguments}\n[ "$1" != install ]\n')
    apt_get.chmod(0o755)

    completed = subprocess.run(
        [SETUP, "dev"],
        env={"PATH": str(programs)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert completed.returncode == 1, completed.stderr
    assert "apt-get could not install: " in completed.stderr
    lines = arguments.read_text().splitlines()
    for package in ("etcd-server", "containerd", "buildah", "netavark", "mmdebstrap"):
        assert f"<{package}>" in lines
    assert not [line for line in lines if " " in line], "expected one package in each argument"
