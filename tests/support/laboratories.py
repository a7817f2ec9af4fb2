"""Network laboratories (``ops.lab``) whose process was killed.

Each new laboratory on this machine removes the remains of laboratories whose process id is free. A
killed process keeps its process id until a test calls ``KilledLaboratory.reap``.
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
    """A laboratory whose process was killed."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.identity = LabIdentity(process.pid, serial=1)
        self._process = process

    def reap(self) -> None:
        """Reap the process, so that new laboratories remove the remains of this laboratory."""
        assert self._process.wait() == -signal.SIGKILL


@contextmanager
def killed_laboratory(script: str) -> Iterator[KilledLaboratory]:
    """Run a script that creates a laboratory and kills itself; remove the remains at the end."""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as process:
        killed = KilledLaboratory(process)
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            yield killed
        finally:
            process.kill()  # if it is still running
    remove(killed.identity)
