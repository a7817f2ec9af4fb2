"""Network laboratories (``ops.lab``) whose process was killed.

A new laboratory removes the remains of each laboratory whose process id is no longer in use.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ops.lab.identity import LabIdentity
from ops.lab.leftovers import remove

ROOT: Final = Path(__file__).resolve().parents[2]


class KilledLaboratory:
    """A laboratory whose killed process keeps its process id until ``reap``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.identity = LabIdentity(process.pid, serial=1)
        self._process = process

    def reap(self) -> None:
        assert self._process.wait() == -signal.SIGKILL


@contextmanager
def killed_laboratory(script: str) -> Iterator[KilledLaboratory]:
    """Run a script that creates a laboratory and kills itself."""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as process:
        laboratory = KilledLaboratory(process)
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            yield laboratory
        finally:
            process.kill()  # if it is still running
    remove(laboratory.identity)
