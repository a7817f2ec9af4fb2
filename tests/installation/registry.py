"""A container registry in a laboratory, under the name that the documents use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from ops.lab.daemons import Daemon
from ops.lab.laboratory import Laboratory
from tests.installation.registry_server import digest_of, manifest_path
from tests.packaging.project import PROJECT_ROOT

REGISTRY_NAME: Final = "registry.example.com"
PORT: Final = 80
ETCD_REGISTRY: Final = "quay.io"
"""``make push-images`` copies etcd's image from this registry; ``Registry`` serves both names."""

_REGISTRIES: Final = "".join(
    f'[[registry]]\nlocation = "{name}"\ninsecure = true\n'
    for name in (REGISTRY_NAME, ETCD_REGISTRY)
)
"""See containers-registries.conf(5)."""

_HOSTS_TOML: Final = """
server = "http://{address}:{port}"

[host."http://{address}:{port}"]
  capabilities = ["pull", "resolve"]
"""


class Registry:
    """A registry in the network of a laboratory, with its images in ``data``."""

    def __init__(self, laboratory: Laboratory, data: Path) -> None:
        self._laboratory = laboratory
        self._data = data
        self._directory = laboratory.directory / "registry"
        self._daemon: Daemon | None = None

    def start(self) -> None:
        """Write the file ``hosts``; start the process. Raises LabFailed."""
        self._directory.mkdir()
        address, fabric = self._laboratory.fabric.address, self._laboratory.fabric.namespace
        self.hosts.write_text(f"127.0.0.1 localhost\n{address} {REGISTRY_NAME} {ETCD_REGISTRY}\n")
        command = [sys.executable, "-m", "tests.installation.registry_server"]
        self._daemon = Daemon(
            self._laboratory.identity,
            fabric,
            [*command, str(self._data), address, str(PORT)],
            self._directory / "log",
            {"PYTHONPATH": str(PROJECT_ROOT)},
        )
        self._daemon.start()
        self._daemon.wait_until(lambda: f"{address}:{PORT} " in fabric.run("ss", "-Hltn"))

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.kill()

    @property
    def hosts(self) -> Path:
        """A file for /etc/hosts with the names of the registries."""
        return self._directory / "hosts"

    def write_builder_settings(self, home: Path) -> None:
        """Write a registries.conf with which an image builder uses no TLS."""
        settings = home / ".config/containers"
        settings.mkdir(parents=True)
        (settings / "registries.conf").write_text(_REGISTRIES)

    def manifest(self, repository: str, reference: str) -> dict[str, Any]:
        """The manifest of a tag or a digest. Raises FileNotFoundError."""
        path = manifest_path(self._data, REGISTRY_NAME, repository, reference)
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        return manifest

    def digest(self, repository: str, reference: str) -> str:
        """The digest of a tag. Raises FileNotFoundError."""
        return digest_of(
            manifest_path(self._data, REGISTRY_NAME, repository, reference).read_bytes()
        )

    def write_containerd_settings(self, directory: Path) -> None:
        """Write the registry's settings into containerd's directory ``config_path``."""
        host_directory = directory / REGISTRY_NAME
        host_directory.mkdir(parents=True)
        address = self._laboratory.fabric.address
        (host_directory / "hosts.toml").write_text(_HOSTS_TOML.format(address=address, port=PORT))
