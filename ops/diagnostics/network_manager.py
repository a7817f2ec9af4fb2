"""Checks that NetworkManager does not manage the veth interfaces of Pods. Changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

CONFIGURATION_FOLDER: Final = Path("/etc/NetworkManager/conf.d")
RUNNING: Final = Path("/run/NetworkManager")
SUGGESTED_FILE: Final = "spidernet.conf"
SUGGESTED_CONTENT: Final = "[keyfile]\nunmanaged-devices=interface-name:veth*\n"
FILE_BYTES_MAX: Final = 1 << 16

_KEY: Final = "unmanaged-devices"
_VETHS: Final = "interface-name:veth"


class Manager(NamedTuple):
    """Whether NetworkManager runs, and whether its configuration ignores veth interfaces."""

    running: bool
    ignores_veths: bool


def read_manager(running: Path = RUNNING, configuration: Path = CONFIGURATION_FOLDER) -> Manager:
    """Configuration files that cannot be read are ignored."""
    files = sorted(configuration.glob("*.conf")) if configuration.is_dir() else []
    return Manager(running.is_dir(), any(map(_ignores_veths, files)))


def _ignores_veths(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX).decode(errors="replace")
    except OSError:
        return False
    lines = (line.strip() for line in text.splitlines())
    return any(line.startswith(_KEY) and _VETHS in line for line in lines)
