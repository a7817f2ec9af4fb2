"""Reads copies of the CNI files of nodes.

The folder ``DIRECTORY/NODE`` has the layout of the root directory of one node. It may be a link.
``etc/cni/net.d`` has network configurations. ``var/lib/cni/networks`` has the files of host-local,
unless a configuration names another directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core.errors import BadInput
from core.manifests.foreign.host_local import NodeFiles, data_directories

CONFIGURATIONS_PATH: Final = "etc/cni/net.d"
CONFIGURATION_SUFFIXES: Final = (".conf", ".conflist", ".json")
NETWORKS_PATH: Final = "var/lib/cni/networks"

CONFIGURATION_BYTES_MAX: Final = 1024 * 1024
RESERVATION_BYTES_MAX: Final = 4096

FILES_MAX: Final = 131_072
"""Limit for one directory: the number of addresses in two /16 subnets."""

TOO_LARGE_REMEDY: Final = "keep only CNI configurations and host-local's reservations in the folder"


def read_node_folders(directory: str) -> list[NodeFiles]:
    """Read the folder of each node. Raises BadInput."""
    path = Path(directory)
    if not path.is_dir():
        remedy = "name the directory that has a folder for each node"
        raise BadInput(f"{directory} is not a directory", subject=directory, remedy=remedy)
    folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir()]
    if not folders:
        remedy = f"copy {CONFIGURATIONS_PATH} and {NETWORKS_PATH} of each node to {directory}/NODE"
        raise BadInput(f"{directory} has no folder for a node", subject=directory, remedy=remedy)
    return [_read_node(folder) for folder in folders]


def _read_node(folder: Path) -> NodeFiles:
    configurations = [
        (str(file), _read(file, CONFIGURATION_BYTES_MAX))
        for file in _files(folder / CONFIGURATIONS_PATH)
        if file.suffix in CONFIGURATION_SUFFIXES
    ]
    networks: dict[str, dict[str, str]] = {}
    for directory in sorted({NETWORKS_PATH, *data_directories(configurations)}):
        state = folder / directory.lstrip("/")
        for network in sorted(state.iterdir()) if state.is_dir() else ():
            if network.is_dir():
                files = {file.name: _read(file, RESERVATION_BYTES_MAX) for file in _files(network)}
                networks[network.name] = networks.get(network.name, {}) | files
    if not configurations and not networks:
        raise BadInput(
            f"{folder} has no configuration in {CONFIGURATIONS_PATH} and no network in"
            f" {NETWORKS_PATH}",
            subject=str(folder),
            remedy=f"copy both directories of node {folder.name} into {folder}",
        )
    return NodeFiles(folder.name, configurations, networks)


def _files(directory: Path) -> Iterator[Path]:
    """The files of a directory; none if it does not exist. Raises BadInput."""
    try:
        files = sorted(path for path in directory.iterdir() if path.is_file())
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInput(
            f"cannot read {directory}: {error.strerror}",
            subject=str(directory),
            remedy="give a readable copy of the folder",
        ) from None
    if len(files) > FILES_MAX:
        raise BadInput(
            f"{directory} has {len(files)} files, more than {FILES_MAX}",
            subject=str(directory),
            remedy=TOO_LARGE_REMEDY,
        )
    yield from files


def _read(file: Path, bytes_max: int) -> str:
    """The text; "" if the file has been deleted. Raises BadInput."""
    try:
        with file.open("rb") as stream:
            content = stream.read(bytes_max + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BadInput(
            f"cannot read {file}: {error.strerror}",
            subject=str(file),
            remedy="give a readable copy of the folder",
        ) from None
    if len(content) > bytes_max:
        raise BadInput(
            f"{file} has more than {bytes_max} bytes", subject=str(file), remedy=TOO_LARGE_REMEDY
        )
    return content.decode("utf-8", "replace")
