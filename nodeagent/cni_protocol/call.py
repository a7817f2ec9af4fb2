"""One CNI call as the executable sends it, checked as libcni's skel does.

Promise: what ``read_call`` returns is complete for its verb, and every name in it can be part of a
key. It must never look at the node: whether a network namespace exists is not its business.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from core.allocation.add_request import AddRequest, HasHungUp
from core.domain.events import Cause
from core.domain.facts import PodReference
from core.domain.model import Attachment
from core.domain.selection.request import SelectionRequest
from nodeagent.cni_protocol.arguments import is_name, read_arguments
from nodeagent.cni_protocol.failures import (
    INCOMPATIBLE_VERSION,
    INVALID_ENVIRONMENT,
    CniFailure,
)
from nodeagent.cni_protocol.netconf import (
    WITHOUT_CHECK,
    WITHOUT_GC_AND_STATUS,
    NetConf,
    read_netconf,
)
from nodeagent.telemetry.tracing import valid_traceparent

VERBS: Final = ("ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION")
INTERFACE_CHARACTERS_MAX: Final = 15
"""IFNAMSIZ without its NUL (CNI: an interface name as Linux takes it)."""

NETNS_CHARACTERS_MAX: Final = 4096

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
"""Of the commands that name none: GC and STATUS."""


class Call(NamedTuple):
    """One call, but for an ADD of addresses, which is an ``AddRequest``.

    ``traceparent`` is the runtime's trace context, "" for none.
    """

    verb: str
    conf: NetConf
    attachment: Attachment = NO_ATTACHMENT
    pod: PodReference = PodReference()
    traceparent: str = ""


def read_environment(block: bytes) -> dict[str, str]:
    """NAME=value entries, each closed by a NUL (docs/reference/cni-executables.md)."""
    entries = block.decode(errors="replace").split("\0")
    # Slices of a list comprehension: half the time of a loop that unpacks.
    return dict([entry.partition("=")[::2] for entry in entries if entry])


def read_verb(environment: dict[str, str]) -> str:
    """CNI_COMMAND. Raises CniFailure with code 4."""
    verb = environment.get("CNI_COMMAND", "")
    if verb in VERBS:
        return verb
    if not verb:
        text = "required env variable CNI_COMMAND missing"
    else:
        text = f"unknown CNI_COMMAND: {verb[:64]}"
    raise CniFailure(INVALID_ENVIRONMENT, text, f"CNI_COMMAND is one of {', '.join(VERBS)}")


def read_conf(verb: str, environment: dict[str, str], stdin: bytes) -> NetConf:
    """The configuration of a call that has all that its verb needs.

    Raises CniFailure with code 1, 4, 6 or 7.
    """
    for name in _REQUIRED.get(verb, ()):
        if not environment.get(name):
            raise _missing(verb, environment)
    conf = read_netconf(stdin)
    _check_version(verb, conf.cni_version)
    return conf


def read_call(verb: str, environment: dict[str, str], stdin: bytes) -> Call:
    """The call, complete for its verb. Raises CniFailure with code 1, 4, 6 or 7."""
    conf = read_conf(verb, environment, stdin)
    traceparent = environment.get("TRACEPARENT", "")
    if verb not in _REQUIRED:
        return Call(verb, conf, traceparent=traceparent)
    attachment = read_attachment(environment, conf)
    pod = read_arguments(environment.get("CNI_ARGS", ""), attachment.container)
    return Call(verb, conf, attachment, pod, traceparent)


def read_add_request(
    environment: dict[str, str], conf: NetConf, actor: str, has_hung_up: HasHungUp
) -> AddRequest:
    """The ADD that variables and configuration ask for. Raises CniFailure with code 4."""
    attachment = read_attachment(environment, conf)
    container, interface, *_ = attachment
    traceparent = environment.get("TRACEPARENT", "")
    ipam = conf.ipam
    return AddRequest(
        read_arguments(environment.get("CNI_ARGS", ""), container),
        attachment,
        SelectionRequest(
            interface,
            ipam.default_ipv4_ippool,
            ipam.default_ipv6_ippool,
            ipam.clean_gateway,
            ipam.match_master_subnet,
        ),
        Cause(actor, container, "", valid_traceparent(traceparent) if traceparent else ""),
        has_hung_up,
    )


def read_attachment(environment: dict[str, str], conf: NetConf) -> Attachment:
    """Container, interface and network namespace. Raises CniFailure with code 4."""
    return Attachment(
        checked_container(environment[_CONTAINER]),
        checked_interface(environment[_INTERFACE]),
        conf.name,
        _checked_netns(environment.get(_NETNS, "")),
    )


def checked_container(container: str) -> str:
    """The container id, if it is one. Raises CniFailure with code 4."""
    if not is_name(container):
        raise CniFailure(
            INVALID_ENVIRONMENT, f"{_CONTAINER}: invalid characters in {container[:64]!r}"
        )
    return container


def checked_interface(name: str) -> str:
    """The interface name, if Linux takes it. Raises CniFailure with code 4."""
    if len(name) > INTERFACE_CHARACTERS_MAX:
        fault = f"more than {INTERFACE_CHARACTERS_MAX} characters"
    elif name in ("", ".", ".."):
        fault = "not a name"
    elif _BAD_INTERFACE.search(name) or not name.isprintable():
        fault = "'/', ':' and white space are impossible"
    else:
        return name
    raise CniFailure(INVALID_ENVIRONMENT, f"{_INTERFACE} {name[:64]!r}: {fault}")


def _missing(verb: str, environment: dict[str, str]) -> CniFailure:
    missing = [name for name in _REQUIRED[verb] if not environment.get(name)]
    text = f"required env variables [{','.join(missing)}] missing"
    return CniFailure(INVALID_ENVIRONMENT, text, f"set them for CNI_COMMAND={verb}")


def _checked_netns(path: str) -> str:
    if len(path) > NETNS_CHARACTERS_MAX:
        raise CniFailure(INVALID_ENVIRONMENT, f"{_NETNS}: {len(path)} characters")
    return path


def _check_version(verb: str, version: str) -> None:
    too_old = WITHOUT_CHECK if verb == "CHECK" else WITHOUT_GC_AND_STATUS
    if verb in ("CHECK", "GC", "STATUS") and version in too_old:
        raise CniFailure(
            INCOMPATIBLE_VERSION,
            f"config version {version} does not allow {verb}",
            "raise cniVersion in the network configuration",
        )
