"""Reads manifests, and makes a command for each object.

Skips objects of kinds that orbctl does not store. Reports skipped objects, and fields without
effect, on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from core.domain.configuration.commands import Command
from core.domain.validation.common_rules import ObjectReference
from core.errors import BadInput, Refusal, Refused
from core.manifests.kinds.fields import API_VERSION
from core.manifests.manifest_parser import objects, read_object
from core.manifests.networks.coordinators import coordinator_rules
from core.manifests.networks.network_defaults import completed
from core.manifests.networks.network_parser import (
    COORDINATOR_KIND,
    checked_coordinator,
    checked_network,
)
from core.manifests.networks.network_validation import MULTUS_CONFIG_KIND as NETWORK
from core.manifests.networks.network_validation import network_rules
from core.manifests.schemas import MANIFEST_SCHEMAS, Body
from ops.cli.exit_codes import exit_code, report
from ops.cli.input_files import input_files, read_text

OBJECTS_MAX: Final = 10_000
"""Limit for one file; items of lists count too."""

SIMILARITY_MIN: Final = 0.85
"""An unknown kind counts as misspelt if it is so similar (0 to 1) to a known kind."""

_QUOTED_CHARS_MAX: Final = 80
_OWN_GROUP: Final = API_VERSION.partition("/")[0]
_SCHEMA_GROUPS: Final = frozenset(
    version.rpartition("/")[0] for version, _ in MANIFEST_SCHEMAS.values()
)
_NETWORK_REASON: Final = "`orbctl nad -f FILE` prints or writes its NetworkAttachmentDefinition"
_COORDINATOR_REASON: Final = (
    "without Kubernetes, agents read orbweaver.coordinator of conf.yml, which has these fields"
)
_THIRD_PARTY_REASON: Final = "a third-party workload is known from the ownerReferences of its Pods"
_FIELDS_WITHOUT_EFFECT: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "SpiderIPPool": (("vlan", "interfaces have the VLAN of their network"),),
    "SpiderSubnet": (("vlan", "interfaces have the VLAN of their network"),),
    NETWORK: tuple(
        (f"{link}.enableRdma", "a shared RDMA device is requested by rdmaResourceName")
        for link in ("macvlan", "ipvlan", "vlan")
    ),
}
"""Kind -> fields of the spec that have no effect, each with the reason."""

CommandOf = Callable[[Body], Command]
Result = Command | BadInput | Refused | None
"""A command, the error of an invalid object, or None for a skipped object."""


def read_commands(
    paths: list[str], command_of: CommandOf, *, recursive: bool = False
) -> list[Command]:
    """The commands of all objects, in order. Raises BadInput, Refused."""
    commands: list[Command] = []
    for result in read_results(paths, command_of, recursive=recursive):
        if isinstance(result, BadInput | Refused):
            raise result
        if result is not None:
            commands.append(result)
    return commands


def read_valid_commands(
    paths: list[str], command_of: CommandOf, *, recursive: bool = False
) -> tuple[list[Command], int]:
    """The commands of valid objects, and the highest exit code of invalid objects.

    Prints the error of each invalid object. Raises BadInput as ``read_results`` does.
    """
    commands: list[Command] = []
    highest_code = 0
    for result in read_results(paths, command_of, recursive=recursive):
        if isinstance(result, BadInput | Refused):
            report(result)
            highest_code = max(highest_code, exit_code(result))
        elif result is not None:
            commands.append(result)
    return commands, highest_code


def read_results(
    paths: list[str], command_of: CommandOf, *, recursive: bool = False
) -> Iterator[Result]:
    """The result for each object. Raises BadInput if a file is not YAML or there is no object."""
    files = list(input_files(paths, recursive=recursive))
    count = 0
    for path in files:
        prefix = f"{path}: " if len(files) > 1 else ""
        for location, value in _objects(path, prefix):
            count += 1
            yield read_value(value, prefix + location, command_of)
    if not count:
        raise BadInput(
            f"no object in {', '.join(paths)}",
            subject="filename",
            remedy="pass a manifest with at least one object",
        )


def read_value(value: object, location: str, command_of: CommandOf) -> Result:
    """The result for one object; errors are returned, not raised. Prints the reason for a skip."""
    try:
        reason = skip_reason(value)
        if reason:
            _require_valid(value, location)
            _print(f"{object_title(value)} skipped: {reason}")
            report_ineffective_fields(value)
            return None
        command = command_of(read_object(value, location))
    except (BadInput, Refused) as error:
        return error
    report_ineffective_fields(value)
    return command


def report_ineffective_fields(value: object) -> None:
    """Print the object's fields that have no effect."""
    for field, why in ineffective_fields(value):
        _print(f"note: {object_title(value)}: spec.{field} has no effect: {why}")


def ineffective_fields(value: object) -> Iterator[tuple[str, str]]:
    """The fields of the spec that are set without effect, each with the reason."""
    if not isinstance(value, Mapping):
        return
    for path, why in _FIELDS_WITHOUT_EFFECT.get(str(value.get("kind")), ()):
        field_value: object = value.get("spec")
        for name in path.split("."):
            field_value = field_value.get(name) if isinstance(field_value, Mapping) else None
        if field_value is not None:
            yield path, why


def skip_reason(value: object) -> str:
    """Why an object is skipped; "" if its kind is stored or probably misspelt."""
    if not isinstance(value, Mapping):
        return ""
    kind, version = value.get("kind"), value.get("apiVersion")
    if not (isinstance(kind, str) and isinstance(version, str) and kind and version):
        return ""
    group = version.rpartition("/")[0]
    if group == _OWN_GROUP:
        return {
            NETWORK: _NETWORK_REASON,
            COORDINATOR_KIND: _COORDINATOR_REASON,
            "SpiderEndpoint": "it is a status report; only ADDs claim addresses",
            "SpiderClaimParameter": "Spiderpool no longer supports dynamic resource allocation",
        }.get(kind, "")
    if group in _SCHEMA_GROUPS and get_close_matches(
        kind, MANIFEST_SCHEMAS, n=1, cutoff=SIMILARITY_MIN
    ):
        return ""
    spec = value.get("spec")
    if isinstance(spec, Mapping) and isinstance(spec.get("template"), Mapping):
        return _THIRD_PARTY_REASON
    return f"a {kind[:_QUOTED_CHARS_MAX]} has no addresses"


def object_title(value: object) -> str:
    """``kind/namespace/name``, without missing parts."""
    if not isinstance(value, Mapping):
        return "object"
    metadata = value.get("metadata")
    names = metadata if isinstance(metadata, Mapping) else {}
    parts = (str(value.get("kind", "")).lower(), names.get("namespace"), names.get("name"))
    return "/".join(str(part)[:_QUOTED_CHARS_MAX] for part in parts if part)


def _objects(path: str, prefix: str) -> Iterator[tuple[str, object]]:
    try:
        for count, document in enumerate(objects(read_text(path))):
            if count == OBJECTS_MAX:
                message = f"{path}: more than {OBJECTS_MAX} objects in one file"
                raise BadInput(message, remedy="split the file")
            yield document
    except BadInput as error:
        if not prefix or error.message.startswith(prefix):
            raise
        message = prefix + error.message
        raise BadInput(message, subject=error.subject, remedy=error.remedy) from None


def _require_valid(value: object, location: str) -> None:
    assert isinstance(value, Mapping), "skip_reason skips only mappings"
    refusals: Iterable[Refusal] = ()
    if value["kind"] == NETWORK:
        network = checked_network(value, location)
        refusals = network_rules(network._replace(spec=completed(network.spec)))
    elif value["kind"] == COORDINATOR_KIND:
        name, spec = checked_coordinator(value, location)
        refusals = coordinator_rules(ObjectReference(COORDINATOR_KIND, name), spec)
    if refused := tuple(refusals):
        raise Refused(refused)


def _print(text: str) -> None:
    print(text, file=sys.stderr)
