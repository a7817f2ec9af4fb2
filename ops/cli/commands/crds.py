"""``orbctl crds``: the CustomResourceDefinitions, for ``kubectl apply`` and for the chart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.manifests.crds.definitions import KINDS, definition_of
from core.manifests.manifest_writer import dump_yaml


def crds(
    directory: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="write one file per kind into this directory, print nothing",
        ),
    ] = None,
) -> None:
    """Print the CustomResourceDefinitions.

    Examples:
      orbctl crds > crds.yaml
    """
    if directory is None:
        print(dump_yaml(map(definition_of, KINDS)), end="")
        return
    for kind in KINDS:
        (directory / f"{kind.plural}.yaml").write_text(dump_yaml([definition_of(kind)]))
