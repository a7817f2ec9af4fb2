"""A real ``orbweaver-controller``, the only one, so that it leads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from bench.rig.daemon import DaemonFailed, DaemonProcess

IDLE_SHARE_MAX = 0.05
"""Of a core; below that over a second it has done what there was to do."""

IDLE_S_MAX = 120.0


class ControllerProcess(DaemonProcess):
    """One controller; ready as soon as it leads and has all that it watches."""

    def __init__(self, directory: Path, etcd: str, variables: Mapping[str, str] = {}) -> None:
        settings = {
            "ORBWEAVER_ETCD_ENDPOINTS": etcd,
            "ORBWEAVER_ARCHIVE_DIR": str(directory / "archive"),
            "SPIDERPOOL_POD_NAME": "controller",
        }
        super().__init__(directory, "ops.controller.main", {**settings, **variables})

    def wait_idle(self) -> None:
        """Return when it has nothing to do any more. Raises DaemonFailed."""
        began, before = time.monotonic(), self.cpu_s()
        while time.monotonic() - began < IDLE_S_MAX:
            time.sleep(1)
            now = self.cpu_s()
            if now - before <= IDLE_SHARE_MAX:
                return
            before = now
        raise DaemonFailed(f"it still works after {IDLE_S_MAX:g} s")
