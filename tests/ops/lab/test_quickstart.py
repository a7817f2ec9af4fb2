"""The shell blocks of docs/tutorials/quickstart.md run in order, as one script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.demo.demo_state import PROJECT_ROOT
from ops.lab.identity import LABORATORY_VARIABLE, new_identity
from ops.lab.leftovers import LabResources, remove, resources_of
from tests.support.documents import shell_blocks
from tests.support.etcd import free_ports

pytestmark = [pytest.mark.etcd, pytest.mark.netns]

DEADLINE_S = 100.0


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """The directory has a short path, because a socket's path is limited to 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="ow-"))
    yield directory
    shutil.rmtree(directory)


def test_the_commands_of_the_quickstart_succeed_and_leave_nothing(
    short_directory: Path, tmp_path: Path
) -> None:
    identity = new_identity()
    client_port, peer_port = free_ports(2)
    script = "\n".join(shell_blocks(PROJECT_ROOT / "docs" / "tutorials" / "quickstart.md"))
    # Unique names and ports, for concurrent runs.
    script = script.replace("quick-", identity.name("")).replace("12379", str(client_port))
    script = script.replace("12380", str(peer_port)).replace(
        "mktemp -d", f"mktemp -d -p {short_directory}"
    )
    script = script.replace(". .venv/bin/activate", f". {sys.prefix}/bin/activate")
    output = tmp_path / "output"
    try:
        # The output goes to a file, because a daemon that is left over would keep a pipe open.
        with output.open("w") as file:
            completed = subprocess.run(
                ["bash", "-e", "-c", script],
                stdout=file,
                stderr=file,
                check=False,
                cwd=PROJECT_ROOT,
                env=os.environ | {LABORATORY_VARIABLE: str(identity)},
                timeout=DEADLINE_S,
            )
        remains = resources_of(identity)
    finally:
        remove(identity)

    printed = output.read_text()
    assert completed.returncode == 0, printed
    assert '"address": "10.6.0.1' in printed
    assert "1 received" in printed
    assert re.search(r"^web-0 +eth0 +lan +10\.6\.0\.[12]\d/24", printed, re.MULTILINE)
    assert "state  equals the log" in printed
    assert remains == LabResources(), printed
    assert list(short_directory.iterdir()) == []
