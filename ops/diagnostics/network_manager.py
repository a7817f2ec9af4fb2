"""Checks that NetworkManager does not manage the veth interfaces of Pods. Changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

CONFIGURATION_FOLDER: Final = Path("/etc/NetworkManager/conf.d")
RUNTIME_FOLDER: Final = Path("/run/NetworkManager")
"""Exists while NetworkManager runs."""

SUGGESTED_FILE: Final = "spidernet.conf"
SUGGESTED_CONTENT: Final = "[keyfile]\nunmanaged-devices=interface-name:veth*\n"
FILE_BYTES_MAX: Final = 1 << 16

_KEY: Final = "unmanaged-devices"
_VETHS: Final = "interface-name:veth"


class NetworkManagerState(NamedTuple):
    """Whether NetworkManager runs, and whether its configuration ignores veth interfaces."""

    running: bool
    ignores_veths: bool


def read_network_manager(
    runtime: Path = RUNTIME_FOLDER, configuration: Path = CONFIGURATION_FOLDER
) -> NetworkManagerState:
    """Ignores configuration files that it cannot read."""
    files = sorted(configuration.glob("*.conf")) if configuration.is_dir() else []
    return NetworkManagerState(runtime.is_dir(), any(map(_ignores_veths, files)))


def _ignores_veths(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX).decode(errors="replace")
    except OSError:
        return False
    lines = (line.strip() for line in text.splitlines())
    return any(line.startswith(_KEY) and _VETHS in line for line in lines)
