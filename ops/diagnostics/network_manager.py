"""Checks that NetworkManager does not manage the interfaces that agents create on the node.

These are the veths of Pods, and the bonds and VLANs of ``ifacer``. Changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple

CONFIGURATION_FOLDER: Final = Path("/etc/NetworkManager/conf.d")
PROFILE_FOLDER: Final = Path("/etc/NetworkManager/system-connections")
RUNTIME_FOLDER: Final = Path("/run/NetworkManager")
"""Exists while NetworkManager runs."""

SUGGESTED_FILE: Final = "spidernet.conf"
FILE_BYTES_MAX: Final = 1 << 16

VETHS: Final = "veth*"
CREATED_KINDS: Final = ("bond", "vlan")
"""The kinds of links that ``ifacer`` creates."""

_EXCEPT: Final = "except:"
_SETTING: Final = re.compile(r"unmanaged-devices\s*(\+?)=(.*)")
_PROFILE_INTERFACE: Final = re.compile(r"interface-name\s*=\s*(\S+)")


class NetworkManagerState(NamedTuple):
    """Whether NetworkManager runs, and which interfaces it does not manage.

    ``unmanaged``: the device specifications of ``unmanaged-devices``. ``profiles``: interfaces with
    a connection profile, which NetworkManager is meant to manage.
    """

    running: bool
    unmanaged: tuple[str, ...] = ()
    profiles: frozenset[str] = frozenset()

    @property
    def ignores_veths(self) -> bool:
        """Whether NetworkManager does not manage the veths of Pods."""
        return self.ignores("veth0", "veth")

    def ignores(self, name: str, kind: str) -> bool:
        """Whether NetworkManager does not manage an interface. ``kind``: the kind of the link."""
        exceptions = [
            spec.removeprefix(_EXCEPT) for spec in self.unmanaged if spec.startswith(_EXCEPT)
        ]
        if any(_matches(exception, name, kind) for exception in exceptions):
            return False
        has_only_exceptions = 0 < len(exceptions) == len(self.unmanaged)
        return has_only_exceptions or any(_matches(spec, name, kind) for spec in self.unmanaged)


def suggested_content(interfaces: list[str]) -> str:
    """A configuration file that adds these interfaces to ``unmanaged-devices`` of other files."""
    specifications = ";".join(f"interface-name:{name}" for name in interfaces)
    return f"[keyfile]\nunmanaged-devices+={specifications}\n"


def read_network_manager(
    runtime: Path = RUNTIME_FOLDER,
    configuration: Path = CONFIGURATION_FOLDER,
    profiles: Path = PROFILE_FOLDER,
) -> NetworkManagerState:
    """Ignores files that it cannot read."""
    unmanaged: list[str] = []
    for line in _lines(configuration, "*.conf"):
        setting = _SETTING.match(line)
        if setting is not None:
            if not setting[1]:
                unmanaged.clear()  # a later file overrides earlier ones
            unmanaged += [spec.strip() for spec in re.split("[;,]", setting[2]) if spec.strip()]
    lines = [*_lines(profiles, "*"), *_lines(runtime / profiles.name, "*")]
    names = frozenset(match[1] for line in lines if (match := _PROFILE_INTERFACE.match(line)))
    return NetworkManagerState(runtime.is_dir(), tuple(unmanaged), names)


def _lines(folder: Path, pattern: str) -> Iterator[str]:
    for path in sorted(folder.glob(pattern)) if folder.is_dir() else []:
        try:
            with path.open("rb") as file:
                text = file.read(FILE_BYTES_MAX).decode(errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            yield line.strip()


def _matches(specification: str, name: str, kind: str) -> bool:
    if specification == "*":
        return True
    subject, colon, pattern = specification.partition(":")
    match subject:
        case "interface-name":
            return pattern == f"={name}" or fnmatchcase(name, pattern.removeprefix("~"))
        case "type" | "driver":
            return fnmatchcase(kind, pattern)
        case _:
            return not colon and specification == name
