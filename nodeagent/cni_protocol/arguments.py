"""CNI_ARGS: ``KEY=value`` pairs joined by ``;``, as libcni's LoadArgs reads them.

Promise: a malformed text or an unknown key is refused by name; values that become parts of etcd
keys are checked here, once. It knows nothing of Pods beyond their names.
"""

from __future__ import annotations

import re
from typing import Final

from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.domain.facts import PodReference
from nodeagent.cni_protocol.failures import INVALID_ENVIRONMENT, CniFailure

ARGS_CHARACTERS_MAX: Final = 4096
NAME_CHARACTERS_MAX: Final = 253
"""A DNS subdomain (RFC 1123), the longest name Kubernetes has."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_TRUE: Final = ("1", "true")
_FALSE: Final = ("0", "false")

POD_NAME: Final = "K8S_POD_NAME"
POD_NAMESPACE: Final = "K8S_POD_NAMESPACE"
POD_UID: Final = "K8S_POD_UID"
INFRA_CONTAINER: Final = "K8S_POD_INFRA_CONTAINER_ID"
IGNORE_UNKNOWN: Final = "IgnoreUnknown"
ADDRESS: Final = "IP"

_KNOWN: Final = frozenset((POD_NAME, POD_NAMESPACE, POD_UID, INFRA_CONTAINER))


def is_name(text: str) -> bool:
    """Whether the text can be a Pod's name, namespace or UID, or a container's or network's id."""
    return len(text) <= NAME_CHARACTERS_MAX and _NAME.match(text) is not None


def read_arguments(text: str, container: str = "") -> PodReference:
    """The Pod that CNI_ARGS names. Raises CniFailure with code 4."""
    if not text:
        return PodReference(container=container)
    if len(text) > ARGS_CHARACTERS_MAX:
        raise _refused(f"{len(text)} characters, at most {ARGS_CHARACTERS_MAX} are possible")
    known: dict[str, str] = {}
    others: dict[str, str] = {}
    for pair in text.split(";"):
        key, equals, value = pair.partition("=")
        if not equals or "=" in value:
            raise _refused(f"invalid pair {pair!r}")
        (known if key in _KNOWN else others)[key] = value
    if others:
        _check_others(others)
    for key, value in known.items():
        if value and not is_name(value):
            raise _refused(f"{key} {value[:64]!r} is not a name")
    names = known.get(POD_NAMESPACE, ""), known.get(POD_NAME, ""), known.get(POD_UID, "")
    return PodReference(*names, container)


def _check_others(others: dict[str, str]) -> None:
    address = others.pop(ADDRESS, "")
    if address:
        try:
            parse_address(address)
        except AddressSyntaxError as error:
            raise _refused(f"{ADDRESS}: {error}") from None
    if others and not _ignored(others.pop(IGNORE_UNKNOWN, "0")) and others:
        names = ", ".join(sorted(others))
        raise _refused(f"unknown args [{names}]", "name known ones only, or say IgnoreUnknown=1")


def _ignored(value: str) -> bool:
    lowered = value.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE or not lowered:
        return False
    raise _refused(f"{IGNORE_UNKNOWN} {value[:64]!r} is neither 1, 0, true nor false")


def _refused(what: str, details: str = "") -> CniFailure:
    return CniFailure(INVALID_ENVIRONMENT, f"CNI_ARGS: {what}", details)
