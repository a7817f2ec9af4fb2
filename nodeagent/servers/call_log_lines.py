"""Composes a line of the plugin log for each call (docs/reference/cni-configuration.md)."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.model import Attachment
from core.domain.request_facts import PodReference
from core.process.logs import LOG_LEVELS
from core.process.tracing import log_fields
from nodeagent.cni_protocol.failures import CniFailure
from nodeagent.cni_protocol.netconf import IpamConf, NetConf
from nodeagent.telemetry.plugin_log import (
    FILE_MEGABYTES,
    KEPT_DAYS,
    KEPT_FILES,
    LogTarget,
    PluginLog,
)

NETWORK_FILES_MAX: Final = 64
"""Lines for further files go to the default file."""

WARNED_MAX: Final = 64

_MILLISECONDS: Final = 1_000
_log: Final = logging.getLogger(__name__)


class LogDirectory:
    """The directory of the default file; other log files must be in it too."""

    def __init__(self, default_file: str) -> None:
        self._default = os.path.normpath(default_file)
        self._directory = Path(self._default).parent
        self._files: set[str] = set()
        self._warned: set[str] = set()

    def file_for(self, path: str) -> str:
        """``path`` if it is allowed, else the default file."""
        if not path:
            return self._default
        path = os.path.normpath(path)
        if path == self._default or path in self._files:
            return path
        if Path(path).parent != self._directory or not Path(path).name:
            why = f"it is not in {self._directory}; set log_file_path to a file in this directory"
            self._warn(path, why)
        elif len(self._files) >= NETWORK_FILES_MAX:
            limit = f"network configurations name more than {NETWORK_FILES_MAX} files"
            self._warn(path, f"{limit}; set the same log_file_path in several of them")
        else:
            self._files.add(path)
            return path
        return self._default

    def _warn(self, path: str, why: str) -> None:
        if path in self._warned or len(self._warned) >= WARNED_MAX:
            return
        self._warned.add(path)
        _log.warning("wrote the plugin log to %s instead of %s: %s", self._default, path, why)


class LoggedCall(NamedTuple):
    """The logged parts of a call."""

    command: str
    conf: NetConf
    attachment: Attachment
    pod: PodReference


class CallLog:
    """Logs CNI calls."""

    def __init__(self, log: PluginLog, default_path: str) -> None:
        self._log = log
        self._directory = LogDirectory(default_path)

    def log_success(
        self, logged_call: LoggedCall, arrived: float, fields: dict[str, object]
    ) -> None:
        """Log a successful call. ``arrived``: the call's arrival, by ``time.perf_counter``."""
        if LOG_LEVELS["info"] >= LOG_LEVELS[logged_call.conf.ipam.log_level.lower()]:
            self._write(
                logged_call, "info", arrived, {"msg": f"{logged_call.command} done"} | fields
            )

    def log_failure(self, logged_call: LoggedCall, failure: CniFailure, arrived: float) -> None:
        """Log a failed call."""
        if LOG_LEVELS["error"] >= LOG_LEVELS[logged_call.conf.ipam.log_level.lower()]:
            fields: dict[str, object] = {"msg": failure.message, "code": failure.code}
            self._write(logged_call, "error", arrived, fields)

    def _write(
        self, logged_call: LoggedCall, level: str, arrived: float, fields: dict[str, object]
    ) -> None:
        command, conf, attachment, pod = logged_call
        fields["cmd"] = command
        fields["network"] = conf.name
        container, interface, _, netns = attachment
        if container:
            fields["container"] = container
            fields["interface"] = interface
            fields["netns"] = netns
            fields["pod"] = f"{pod.namespace}/{pod.name}"
            fields["uid"] = pod.uid
        fields |= log_fields()
        fields["ms"] = round((time.perf_counter() - arrived) * _MILLISECONDS, 3)
        self._log.write(self._target(conf.ipam), level, fields)

    def _target(self, ipam: IpamConf) -> LogTarget:
        return LogTarget(
            self._directory.file_for(ipam.log_file_path),
            ipam.log_file_max_size or FILE_MEGABYTES,
            ipam.log_file_max_age or KEPT_DAYS,
            ipam.log_file_max_count or KEPT_FILES,
        )
