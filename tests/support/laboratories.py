"""Laboratories whose process was killed, kept from others until a test wants them removed.

Every new laboratory of this machine removes what dead ones left, also one of a test run beside
this. Until its parent has taken notice, a process that has ended still has its id, and what it left
is nobody's to remove.
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


class Killed:
    """A laboratory without its process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.identity = LabIdentity(process.pid, 1)
        self._process = process

    def bury(self) -> None:
        """From now on anybody may remove what it left."""
        assert self._process.wait() == -signal.SIGKILL


@contextmanager
def killed_laboratory(script: str) -> Iterator[Killed]:
    """Run a script that makes its first laboratory and kills itself; nothing is left at the end."""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as process:
        killed = Killed(process)
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            yield killed
        finally:
            process.kill()  # if it has not done so itself
    remove(killed.identity)
