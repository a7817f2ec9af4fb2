"""One line of the plugin's log for each call: what was asked, how it ended, how long it took.

File, level and rotation are the netconf's (docs/reference/cni-configuration.md, "spiderpool"), the
file within one directory. It costs a call next to nothing: lines are made here and written
elsewhere. It never fails a call.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from core.domain.facts import PodReference
from core.domain.model import Attachment
from nodeagent.cni_protocol.failures import CniFailure
from nodeagent.cni_protocol.netconf import IpamConf, NetConf
from nodeagent.telemetry.plugin_log import (
    DAYS,
    FILES,
    MEGABYTES,
    LogDirectory,
    LogTarget,
    PluginLog,
    is_logged,
)

_MILLISECONDS: Final = 1_000


class Logged(NamedTuple):
    """What a line says of every call, whatever its command."""

    verb: str
    conf: NetConf
    attachment: Attachment
    pod: PodReference


class CallLog:
    """Writes lines about calls."""

    def __init__(self, log: PluginLog, default_path: str) -> None:
        self._log = log
        self._directory = LogDirectory(default_path)

    def done(self, logged: Logged, arrived: float, fields: dict[str, object]) -> None:
        """The call has succeeded."""
        if is_logged("info", logged.conf.ipam.log_level):
            self._write(logged, "info", arrived, {"msg": f"{logged.verb} done"} | fields)

    def failed(self, logged: Logged, failure: CniFailure, arrived: float) -> None:
        """The call has failed."""
        if is_logged("error", logged.conf.ipam.log_level):
            fields: dict[str, object] = {"msg": failure.message, "code": failure.code}
            self._write(logged, "error", arrived, fields)

    def _write(self, logged: Logged, level: str, arrived: float, fields: dict[str, object]) -> None:
        verb, conf, attachment, pod = logged
        fields["cmd"] = verb
        fields["network"] = conf.name
        container, interface, _, netns = attachment
        if container:
            fields["container"] = container
            fields["interface"] = interface
            fields["netns"] = netns
            fields["pod"] = f"{pod.namespace}/{pod.name}"
            fields["uid"] = pod.uid
        fields["ms"] = round((time.perf_counter() - arrived) * _MILLISECONDS, 3)
        self._log.write(self._target(conf.ipam), level, fields)

    def _target(self, ipam: IpamConf) -> LogTarget:
        return LogTarget(
            self._directory.file_for(ipam.log_file_path),
            ipam.log_file_max_size or MEGABYTES,
            ipam.log_file_max_age or DAYS,
            ipam.log_file_max_count or FILES,
        )
