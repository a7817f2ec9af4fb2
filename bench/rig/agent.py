"""Runs a real ``orbweaver-agent``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.rig.daemon import DaemonProcess


class AgentProcess(DaemonProcess):
    """One agent. ``framed_path``: the socket for binary frames."""

    def __init__(
        self, directory: Path, etcd: str, node: str, variables: Mapping[str, str] = {}
    ) -> None:
        self.socket_path = directory / "s"
        self.framed_path = directory / "s.fast"
        settings = {
            "ORBWEAVER_ETCD_ENDPOINTS": etcd,
            "ORBWEAVER_SOCKET_PATH": str(self.socket_path),
            "ORBWEAVER_PLUGIN_LOG_PATH": str(directory / "plugin.log"),
            "SPIDERPOOL_NODE_NAME": node,
            # The Pods of measures have no network namespaces.
            "ORBWEAVER_ANNOUNCE_ADDRESSES": "false",
        }
        super().__init__(directory, "nodeagent.main", {**settings, **variables})
