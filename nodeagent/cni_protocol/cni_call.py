"""Reads the CNI calls that the executables send, with the checks of libcni's ``skel``.

A ``Call`` has all variables that its command needs. Its names can be parts of etcd keys.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from core.allocation.add_request import AddRequest, HasHungUp
from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.domain.events import Cause
from core.domain.model import Attachment
from core.domain.request_facts import PodReference
from core.domain.selection.selection_request import SelectionRequest
from core.process.tracing import valid_traceparent
from nodeagent.cni_protocol.failures import (
    INCOMPATIBLE_VERSION,
    INVALID_ENVIRONMENT,
    CniFailure,
)
from nodeagent.cni_protocol.netconf import (
    CNI_VERSIONS,
    NAME_HELP,
    WITHOUT_CHECK,
    WITHOUT_GC_AND_STATUS,
    NetConf,
    is_name,
    read_netconf,
)

COMMANDS: Final = ("ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION")
INTERFACE_CHARACTERS_MAX: Final = 15
"""IFNAMSIZ without the NUL."""

NETNS_CHARACTERS_MAX: Final = 4096

ARGS_CHARACTERS_MAX: Final = 4096

POD_NAME: Final = "K8S_POD_NAME"
POD_NAMESPACE: Final = "K8S_POD_NAMESPACE"
POD_UID: Final = "K8S_POD_UID"
INFRA_CONTAINER: Final = "K8S_POD_INFRA_CONTAINER_ID"
IGNORE_UNKNOWN: Final = "IgnoreUnknown"
ADDRESS: Final = "IP"
TRACEPARENT: Final = "TRACEPARENT"
"""The trace context is a variable, or in CNI_ARGS if all calls share one environment."""

_TRUE: Final = ("1", "true")
_FALSE: Final = ("0", "false")
_POD_ARGS: Final = (POD_NAMESPACE, POD_NAME, POD_UID, INFRA_CONTAINER)

_BAD_INTERFACE: Final = re.compile(r"[/:\s]")

_CONTAINER: Final = "CNI_CONTAINERID"
_NETNS: Final = "CNI_NETNS"
_INTERFACE: Final = "CNI_IFNAME"
_REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "ADD": (_CONTAINER, _NETNS, _INTERFACE),
    "CHECK": (_CONTAINER, _NETNS, _INTERFACE),
    "DEL": (_CONTAINER, _INTERFACE),
}


NO_ATTACHMENT: Final = Attachment("", "")
"""``Call.attachment`` of GC and STATUS."""


class Call(NamedTuple):
    """One CNI call. ``traceparent``: the runtime's trace context, or ""."""

    command: str
    conf: NetConf
    attachment: Attachment = NO_ATTACHMENT
    pod: PodReference = PodReference()
    traceparent: str = ""


def read_environment(block: bytes) -> tuple[str, dict[str, str]]:
    """The value of CNI_COMMAND, and all variables. Raises CniFailure with code 4.

    ``block``: NAME=value entries, each followed by a NUL.
    """
    entries = block.decode(errors="replace").split("\0")
    # For speed: a loop with tuple unpacking takes twice the time.
    variables = dict([entry.partition("=")[::2] for entry in entries if entry])
    command = variables.get("CNI_COMMAND", "")
    if command in COMMANDS:
        return command, variables
    if not command:
        text = "required env variable CNI_COMMAND missing"
    else:
        text = f"unknown CNI_COMMAND: {command[:64]}"
    raise CniFailure(INVALID_ENVIRONMENT, text, f"CNI_COMMAND is one of {', '.join(COMMANDS)}")


def _read_conf(command: str, environment: dict[str, str], stdin: bytes) -> NetConf:
    for name in _REQUIRED.get(command, ()):
        if not environment.get(name):
            raise _missing(command, environment)
    conf = read_netconf(stdin)
    _check_version(command, conf.cni_version)
    return conf


def read_call(command: str, environment: dict[str, str], stdin: bytes) -> Call:
    """The call that an executable sent. Raises CniFailure with code 1, 4, 6 or 7."""
    conf = _read_conf(command, environment, stdin)
    traceparent = read_traceparent(environment)
    if command not in _REQUIRED:
        return Call(command, conf, traceparent=traceparent)
    attachment = read_attachment(environment, conf)
    pod = read_pod_reference(environment.get("CNI_ARGS", ""), attachment.container)
    return Call(command, conf, attachment, pod, traceparent)


def read_add_request(
    environment: dict[str, str], stdin: bytes, actor: str, has_hung_up: HasHungUp
) -> tuple[AddRequest, NetConf]:
    """The request and the configuration of an ADD. Raises CniFailure with code 1, 4, 6 or 7."""
    conf = _read_conf("ADD", environment, stdin)
    attachment = read_attachment(environment, conf)
    container, interface, *_ = attachment
    traceparent = read_traceparent(environment)
    ipam = conf.ipam
    request = AddRequest(
        read_pod_reference(environment.get("CNI_ARGS", ""), container),
        attachment,
        SelectionRequest(
            interface,
            ipam.default_ipv4_ippool,
            ipam.default_ipv6_ippool,
            clean_gateway=ipam.clean_gateway,
            match_master_subnet=ipam.match_master_subnet,
        ),
        Cause(
            actor,
            container,
            traceparent=valid_traceparent(traceparent) if traceparent else "",
        ),
        has_hung_up,
    )
    return request, conf


def read_traceparent(environment: dict[str, str]) -> str:
    """The runtime's trace context, unchecked, or ""."""
    traceparent = environment.get(TRACEPARENT, "")
    arguments = environment.get("CNI_ARGS", "")
    if traceparent or TRACEPARENT not in arguments:
        return traceparent
    pairs = (pair.partition("=") for pair in arguments.split(";"))
    return next((value for name, _, value in pairs if name == TRACEPARENT), "")


def read_attachment(environment: dict[str, str], conf: NetConf) -> Attachment:
    """Container, interface and network namespace. Raises CniFailure with code 4."""
    return Attachment(
        checked_container(environment[_CONTAINER]),
        checked_interface(environment[_INTERFACE]),
        conf.name,
        _checked_netns(environment.get(_NETNS, "")),
    )


def checked_container(container: str) -> str:
    """The container id. Raises CniFailure with code 4."""
    if not is_name(container):
        raise CniFailure(
            INVALID_ENVIRONMENT,
            f"{_CONTAINER}: invalid characters in {container[:64]!r}",
            NAME_HELP,
        )
    return container


def checked_interface(name: str) -> str:
    """The interface name. Raises CniFailure with code 4."""
    if len(name) > INTERFACE_CHARACTERS_MAX:
        fault = f"more than {INTERFACE_CHARACTERS_MAX} characters"
    elif name in ("", ".", ".."):
        fault = "not a name"
    elif _BAD_INTERFACE.search(name) or not name.isprintable():
        fault = "'/', ':' and white space are not allowed"
    else:
        return name
    details = f"use at most {INTERFACE_CHARACTERS_MAX} characters, without '/', ':' and white space"
    raise CniFailure(INVALID_ENVIRONMENT, f"{_INTERFACE} {name[:64]!r}: {fault}", details)


def _missing(command: str, environment: dict[str, str]) -> CniFailure:
    missing = [name for name in _REQUIRED[command] if not environment.get(name)]
    text = f"required env variables [{','.join(missing)}] missing"
    needed = ", ".join(_REQUIRED[command])
    return CniFailure(INVALID_ENVIRONMENT, text, f"set {needed} for CNI_COMMAND={command}")


def _checked_netns(path: str) -> str:
    if len(path) > NETNS_CHARACTERS_MAX:
        text = f"{_NETNS}: {len(path)} characters, more than {NETNS_CHARACTERS_MAX}"
        raise CniFailure(INVALID_ENVIRONMENT, text, "use a shorter path")
    return path


def _check_version(command: str, version: str) -> None:
    too_old = WITHOUT_CHECK if command == "CHECK" else WITHOUT_GC_AND_STATUS
    if command in ("CHECK", "GC", "STATUS") and version in too_old:
        oldest = CNI_VERSIONS[len(too_old)]  # ``too_old`` is a prefix of ``CNI_VERSIONS``
        raise CniFailure(
            INCOMPATIBLE_VERSION,
            f"config version {version} does not allow {command}",
            f"set cniVersion in the network configuration to {oldest} or later",
        )


def read_pod_reference(text: str, container: str = "") -> PodReference:
    """The Pod in CNI_ARGS (``KEY=value`` joined by ``;``). Raises CniFailure with code 4."""
    if not text:
        return PodReference(container=container)
    if len(text) > ARGS_CHARACTERS_MAX:
        raise _bad_args(f"{len(text)} characters, more than {ARGS_CHARACTERS_MAX}")
    try:
        arguments = dict([pair.split("=") for pair in text.split(";")])
    except ValueError:
        pair = next(pair for pair in text.split(";") if pair.count("=") != 1)
        raise _bad_args(f"invalid pair {pair!r}") from None
    pod_values = [arguments.pop(name, "") for name in _POD_ARGS]
    if arguments:
        _check_other_arguments(arguments)
    for name, value in zip(_POD_ARGS, pod_values, strict=True):
        if value and not is_name(value):
            raise _bad_args(f"{name} {value[:64]!r} is not a name", NAME_HELP)
    namespace, pod, uid, _ = pod_values
    return PodReference(namespace, pod, uid, container)


def _check_other_arguments(others: dict[str, str]) -> None:
    others.pop(TRACEPARENT, None)
    address = others.pop(ADDRESS, "")
    if address:
        try:
            parse_address(address)
        except AddressSyntaxError as error:
            raise _bad_args(f"{ADDRESS}: {error}") from None
    ignores_unknown = _is_true(others.pop(IGNORE_UNKNOWN, "0"))
    if others and not ignores_unknown:
        names = ", ".join(sorted(others))
        raise _bad_args(f"unknown args [{names}]", "remove them, or add IgnoreUnknown=1")


def _is_true(value: str) -> bool:
    lowered = value.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE or not lowered:
        return False
    raise _bad_args(f"{IGNORE_UNKNOWN} {value[:64]!r} must be 1, 0, true or false")


def _bad_args(what: str, details: str = "") -> CniFailure:
    return CniFailure(INVALID_ENVIRONMENT, f"CNI_ARGS: {what}", details)
