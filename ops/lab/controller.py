"""The controller of a laboratory: the real process, in the network namespace of etcd."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ops.lab.daemons import Daemon
from ops.lab.identity import LabIdentity
from ops.lab.namespaces import NamedNamespace
from ops.lab.programs import console_script
from workflows.jobs.reclaim.pod import FOLLOWING_PODS

NAME: Final = "controller"


class LabController:
    """The only replica of the controller, so it becomes the leader."""

    def __init__(
        self,
        identity: LabIdentity,
        namespace: NamedNamespace,
        directory: Path,
        etcd: str,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.directory = directory
        environment = {
            "SPIDERPOOL_POD_NAME": NAME,
            "ORBWEAVER_ETCD_ENDPOINTS": etcd,
            "ORBWEAVER_ARCHIVE_DIR": str(directory.parent / "archive"),
            **settings,
        }
        config = str(directory / "conf.yml")
        command = [console_script("orbweaver-controller"), "--config-path", config]
        log = directory / "controller.log"
        self.process = Daemon(identity, namespace, command, log, environment)

    def start(self) -> None:
        """Start the process, without waiting until it works. Raises LabFailed."""
        self.directory.mkdir(parents=True)
        self.process.start()

    def wait_following_pods(self) -> None:
        """Wait until the log shows that the controller watches Pods. Raises LabFailed."""
        self.process.wait_until(lambda: FOLLOWING_PODS in self.process.log_path.read_text())
