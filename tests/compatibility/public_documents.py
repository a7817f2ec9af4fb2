"""Applies each object in the YAML of Spiderpool's public documents and returns the outcomes.

A *block* is a fenced ``yaml`` block, a here-document for kubectl, or an object that kubectl
printed. Shell variables that the page sets are substituted.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from core.configuration.configurator import Configurator
from core.domain.events import Cause
from core.errors import BadInput, OrbweaverError, Refused
from core.eventstore.keys import Keys
from core.eventstore.memory_store import MemoryStore
from core.eventstore.writer import Writer
from core.manifests.commands import apply_command
from core.manifests.manifest_parser import objects
from core.manifests.networks.nad_renderer import render
from core.manifests.networks.network_defaults import completed
from core.manifests.networks.network_parser import network_of
from core.manifests.networks.network_validation import MULTUS_CONFIG_KIND
from ops.cli.manifest_objects import ineffective_fields, object_title, read_value

TABLES_FOLDER: Final = Path(__file__).parent / "documents"
REPOSITORY_VARIABLE: Final = "ORBWEAVER_SPIDERPOOL_REPOSITORY"
"""The variable with the path of the documents' git repository."""

VERSION_COMMITS: Final = {
    "1.0": "ba5f11bfdffeaf51ef24e618145a49ab7443233d",
    "1.2": "a7fbd3b2968d",
}
"""Version of the documents -> commit; version 1.2 is of July 2026."""

APPLIED: Final = "applied"
REFUSED: Final = "refused"
NO_MANIFEST: Final = "no manifest"
NOTED: Final = "noted"
"""The object is skipped, or some fields have no effect."""

_MULTI_LINE: Final = re.MULTILINE | re.DOTALL
_FENCE: Final = re.compile(r"^([ \t]*)```+[ \t]*(\w*)[^\n]*\n(.*?)^[ \t]*```+[ \t]*$", _MULTI_LINE)
_HEREDOC: Final = re.compile(
    r"<<-?[ \t]*['\"]?(\w+)['\"]?[ \t]*\|[ \t]*kubectl[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", _MULTI_LINE
)
_ASSIGNMENT: Final = re.compile(
    r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)=[\"']?([^\"'\s$]+)[\"']?[ \t]*$", re.MULTILINE
)
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_PROMPT: Final = re.compile(r"^[ \t]*(?:~?#|\$|[~\[]|root@)")
"""A line with a shell prompt, which ends the output of a command."""

_SHELL_LANGUAGES: Final = ("", "shell", "bash", "sh", "console", "text")


class Block(NamedTuple):
    """A text to apply; ``number`` counts the blocks of the file from 1."""

    file: str
    number: int
    text: str


class Row(NamedTuple):
    """The outcome for one object.

    ``detail``: the refusing rules with their fields, or the fields that have no effect.
    """

    file: str
    block: str
    name: str
    outcome: str
    detail: str


def documents(repository: str, commit: str) -> dict[str, str]:
    """Return path -> text of the pages and examples of a commit."""
    command = ["git", "-C", repository, "archive", commit, "docs", "README.md"]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        return {
            member.name: file.read().decode()
            for member in files.getmembers()
            if member.name.endswith((".md", ".yaml")) and (file := files.extractfile(member))
        }


def blocks(file: str, text: str) -> Iterator[Block]:
    """Yield the blocks of a file; a YAML file is one block."""
    if file.endswith(".yaml"):
        yield Block(file, 1, text)
        return
    variables: dict[str, str] = {}
    number = 0
    for fence in _FENCE.finditer(text):
        indent, language, body = fence.groups()
        body = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        for manifest in _manifests_in(language.lower(), body, variables):
            number += 1
            yield Block(
                file, number, _VARIABLE.sub(lambda match: _value(match, variables), manifest)
            )


def _manifests_in(language: str, body: str, variables: dict[str, str]) -> Iterator[str]:
    """Yield the manifests in a fence; add the variables of a shell block to ``variables``."""
    if language in ("yaml", "yml"):
        yield body
    elif language in _SHELL_LANGUAGES:
        variables |= dict(_ASSIGNMENT.findall(body))
        heredocs = [match[2] for match in _HEREDOC.finditer(body)]
        yield from heredocs or _printed_object(body)


def _printed_object(body: str) -> Iterator[str]:
    lines = body.splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith("apiVersion:")]
    if starts:
        manifest = []
        for line in lines[starts[0] :]:
            if _PROMPT.match(line):
                break
            manifest.append(line)
        yield "\n".join(manifest) + "\n"


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    """Return the variable's value, or the matched text if the page does not set the variable."""
    return variables.get(match[1] or match[2], match[0])


async def rows_of(file: str, text: str) -> list[Row]:
    """Apply all objects of a file to one new cluster; return the outcomes."""
    keys, store = Keys("documents"), MemoryStore()
    writer = Writer(store, keys, "documents")
    await writer.open()
    configurator = Configurator(store, keys, writer)
    rows = []
    for block in blocks(file, text):
        where = (file, str(block.number))
        try:
            values = [value for _, value in objects(block.text)]
        except BadInput:
            rows.append(Row(*where, "-", NO_MANIFEST, "not YAML"))
            continue
        for value in values:
            if not (isinstance(value, Mapping) and value.get("kind")):
                rows.append(Row(*where, "-", NO_MANIFEST, ""))
                continue
            outcome, detail = await _outcome(value, configurator)
            rows.append(Row(*where, object_title(value), outcome, detail))
    await writer.close()
    return rows


async def _outcome(value: Mapping[str, object], configurator: Configurator) -> tuple[str, str]:
    result = read_value(value, "object", apply_command)
    notes = " ".join(field for field, _ in ineffective_fields(value))
    try:
        if isinstance(result, OrbweaverError):
            raise result
        if result is None and value["kind"] == MULTUS_CONFIG_KIND:
            network = network_of(value)
            render(network.name, network.annotations, completed(network.spec))
        elif result is None:
            return NOTED, notes
        else:
            await configurator.apply(result, Cause("documents"))
    except Refused as error:
        return REFUSED, " ".join(f"{refusal.rule}:{refusal.field}" for refusal in error.refusals)
    except BadInput as error:
        return REFUSED, f"unreadable:{error.subject}"
    return (NOTED, notes) if notes else (APPLIED, "")
