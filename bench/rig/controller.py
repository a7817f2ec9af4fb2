"""Runs a real ``orbweaver-controller``. It is the only replica and therefore the leader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.rig.daemon import DaemonProcess


class ControllerProcess(DaemonProcess):
    """One controller. It is ready when it is the leader and its caches have synced."""

    def __init__(self, directory: Path, etcd: str, variables: Mapping[str, str] = {}) -> None:
        settings = {
            "ORBWEAVER_ETCD_ENDPOINTS": etcd,
            "ORBWEAVER_ARCHIVE_DIR": str(directory / "archive"),
            "SPIDERPOOL_POD_NAME": "controller",
        }
        super().__init__(directory, "ops.controller.main", {**settings, **variables})
