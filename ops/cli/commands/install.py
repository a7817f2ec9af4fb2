"""``orbctl install``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from core.errors import BadInput
from ops.cli.input_files import READABLE_REMEDY
from ops.installer import CONFLIST_NAME, FileChange, uninstall
from ops.installer import install as install_files

BIN_DIRECTORY = Path("/opt/cni/bin")
CONF_DIRECTORY = Path("/etc/cni/net.d")


def install(
    bin_dir: Annotated[Path, typer.Option(help="directory of CNI executables")] = BIN_DIRECTORY,
    conf_dir: Annotated[
        Path, typer.Option(help="directory of network configurations")
    ] = CONF_DIRECTORY,
    conflist: Annotated[
        Path | None, typer.Option(help="network configuration list (JSON) to install")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="remove the installed files")] = False,
) -> None:
    """Install the CNI executables on this node.

    Files are replaced atomically: a process never reads a partly written file.

    Examples:
      orbctl install
      orbctl install --conflist network.conflist
      orbctl install --remove
    """
    if remove:
        _show(uninstall(bin_dir))
        return
    network = None if conflist is None else _read(conflist)
    name = CONFLIST_NAME if conflist is None else conflist.name
    _show(install_files(bin_dir, conf_dir, network, name))


def _read(path: Path) -> dict[str, object]:
    remedy = "pass a network configuration list, such as a file of `orbctl nad --directory`"
    try:
        conflist = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(
            f"cannot read {path}: {error.strerror}", subject="conflist", remedy=READABLE_REMEDY
        ) from None
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}", subject="conflist", remedy=remedy) from None
    if not isinstance(conflist, dict):
        raise BadInput(f"{path} is not a JSON object", subject="conflist", remedy=remedy)
    return conflist


def _show(changes: Iterable[FileChange]) -> None:
    for change in changes:
        print(f"{change.path} {change.action}")
