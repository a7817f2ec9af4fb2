"""``orbctl nad``. Needs no cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from core.domain.validation.common_rules import REFUSALS_MAX
from core.errors import BadInput
from core.manifests.manifest_parser import objects
from core.manifests.networks.nad_renderer import render
from core.manifests.networks.network_defaults import completed
from core.manifests.networks.network_parser import checked_network
from core.manifests.networks.network_validation import MULTUS_CONFIG_KIND, network_rules
from ops.cli.exit_codes import Exit, report, report_refusals
from ops.cli.formats import Format
from ops.cli.global_options import globals_of
from ops.cli.input_files import Recursive, read_texts
from ops.cli.manifest_objects import report_ineffective_fields
from ops.cli.output import show_value

NAD = ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition")
NAD_RESOURCE = "networkattachmentdefinition.k8s.cni.cncf.io"
"""Prefix of the names that ``-o name`` prints."""


def nad(
    context: typer.Context,
    file: Annotated[
        list[str],
        typer.Option(
            "-f", "--filename", help="file or folder of SpiderMultusConfigs; - for standard input"
        ),
    ],
    recursive: Recursive = False,
    directory: Annotated[
        Path | None,
        typer.Option(help="write one conflist per network into this directory, print nothing"),
    ] = None,
) -> None:
    """Print the NetworkAttachmentDefinitions of SpiderMultusConfigs.

    Without Multus a node reads its network from a conflist: --directory writes one for each
    network, and `orbctl install --conflist` installs it.

    Examples:
      orbctl nad -f networks.yaml
      orbctl nad -f networks.yaml --directory networks/
      orbctl nad -f networks.yaml -o json
    """
    output = globals_of(context).output
    worst = Exit.OK
    definitions: list[dict[str, Any]] = []
    for _, text in read_texts(file, recursive=recursive):
        definitions_of_file, refused = _definitions(text)
        definitions += definitions_of_file
        worst = Exit.REFUSED if refused else worst
    if directory is not None:
        _write_conflists(directory, definitions)
    elif output.is_name:
        for definition in definitions:
            print(f"{NAD_RESOURCE}/{definition['metadata']['name']}")
    elif output.is_structured and output.format is not Format.YAML:
        show_value(definitions, output)
    elif definitions:
        print(yaml.safe_dump_all(definitions, sort_keys=False, width=1_000_000), end="")
    raise typer.Exit(worst)


def _write_conflists(directory: Path, definitions: list[dict[str, Any]]) -> None:
    texts: dict[str, str] = {}
    for definition in definitions:
        name, config = definition["metadata"]["name"], definition["spec"].get("config")
        if config is None:
            print(
                f"{name} has no CNI configuration, so no file is written: Multus uses the file that"
                " the node has for this network",
                file=sys.stderr,
            )
            continue
        if name in texts:
            raise BadInput(
                f"two networks are called {name} and would be written to the same file",
                subject=name,
                remedy="put them into separate manifests and write each into a separate directory",
            )
        texts[name] = config
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (directory / _file_name(name, text)).write_text(f"{text}\n", "utf-8")
    except OSError as error:
        raise BadInput(
            f"cannot write {directory}: {error.strerror}",
            subject="directory",
            remedy="give a writable directory",
        ) from None


def _file_name(network: str, config: str) -> str:
    """The name of the network's file, with the suffix that libcni expects."""
    document = json.loads(config)
    is_list = isinstance(document, dict) and "plugins" in document
    return f"{network}.{'conflist' if is_list else 'conf'}"


def _definitions(text: str) -> tuple[list[dict[str, Any]], bool]:
    """The manifests, and whether a network was refused. Raises BadInput."""
    definitions: list[dict[str, Any]] = []
    refused = False
    for location, value in objects(text):
        if not (isinstance(value, Mapping) and value.get("kind") == MULTUS_CONFIG_KIND):
            continue
        try:
            network = checked_network(value, location)
        except BadInput as error:
            report(error)
            refused = True
            continue
        report_ineffective_fields(value)
        network = network._replace(spec=completed(network.spec))
        refusals = list(network_rules(network))[:REFUSALS_MAX]
        if refusals:
            report_refusals(refusals)
            refused = True
            continue
        attachment = render(network.name, network.annotations, network.spec)
        spec = {} if attachment.config is None else {"config": attachment.config}
        metadata: dict[str, Any] = {"name": attachment.name, "namespace": network.namespace}
        if attachment.annotations:
            metadata["annotations"] = attachment.annotations
        version, kind = NAD
        definitions.append(
            {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
        )
    if not definitions and not refused:
        raise BadInput(
            "the input contains no SpiderMultusConfig",
            subject="filename",
            remedy="pass a file or folder with a SpiderMultusConfig",
        )
    return definitions, refused
