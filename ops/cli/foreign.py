"""Where ``orbctl import`` reads another IPAM's cluster from: files, or its API server."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from core.errors import BadInput
from core.manifests.spiderpool import Dump, read_cluster, read_dump
from ops.cli.input_files import read_texts
from ops.kubernetes.foreign import list_cluster

KUBECONFIG: Final = "KUBECONFIG"
"""kubectl's variable: files, by colons; the first one is meant here."""

DEFAULT_KUBECONFIG: Final = "~/.kube/config"

Reading = Callable[[], Awaitable["Dump"]]
"""Reads the cluster as it is now; files say the same each time."""


def reading(files: Sequence[str], kubeconfig: str, context: str) -> Reading:
    """How to read. Raises BadInput when both are said, or a file cannot be read."""
    if not files:
        return _of_server(kubeconfig or default_kubeconfig(), context)
    if kubeconfig or context:
        raise BadInput(
            "--filename and --kubeconfig or --context exclude each other",
            subject="filename",
            remedy="give --filename, or --kubeconfig and --context",
        )
    return _of_files(files)


def default_kubeconfig() -> str:
    """The file that kubectl would read."""
    first = os.environ.get(KUBECONFIG, "").split(os.pathsep)[0]
    return first or str(Path(DEFAULT_KUBECONFIG).expanduser())


def _of_files(files: Sequence[str]) -> Reading:
    dump = read_dump(text for _, text in read_texts(files))

    async def read() -> Dump:
        return dump

    return read


def _of_server(kubeconfig: str, context: str) -> Reading:
    async def read() -> Dump:
        return read_cluster(await list_cluster(kubeconfig, context))

    return read
