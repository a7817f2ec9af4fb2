"""Runs a real ``orbweaver-controller``, as the only replica."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.rig.daemon import DaemonProcess


class ControllerProcess(DaemonProcess):
    """One controller; ready when it leads and its caches have synced."""

    def __init__(self, directory: Path, etcd: str, variables: Mapping[str, str] = {}) -> None:
        settings = {
            "ORBWEAVER_ETCD_ENDPOINTS": etcd,
            "ORBWEAVER_ARCHIVE_DIR": str(directory / "archive"),
            "SPIDERPOOL_POD_NAME": "controller",
        }
        super().__init__(directory, "ops.controller.main", {**settings, **variables})
