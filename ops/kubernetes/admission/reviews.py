"""AdmissionReview v1: the question as a value, the answer as JSON, and patches (RFC 6902).

Nothing here decides anything.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from core.domain.configuration.refusals import Refusal
from core.domain.names import is_dns_label
from core.errors import BadInput, MalformedReview
from core.kubernetes.api import Object

API_VERSION: Final = "admission.k8s.io/v1"
CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"
DELETE: Final = "DELETE"

_INVALID: Final = ("Invalid", 422)
_CODES: Final = {
    "BadRequest": 400,
    "Forbidden": 403,
    "AlreadyExists": 409,
    "InternalError": 500,
    "ServiceUnavailable": 503,
}
"""Reason of a Status -> its HTTP code."""

_IS: Final = {"Invalid": "is invalid", "Forbidden": "is forbidden"}
ALREADY_EXISTS: Final = "AlreadyExists"
_QUOTED_CHARS_MAX: Final = 64
_CAUSES: Final = {
    "Invalid": "FieldValueInvalid",
    "Forbidden": "FieldValueForbidden",
    "NotSupported": "FieldValueNotSupported",
    "Required": "FieldValueRequired",
    "AlreadyExists": "FieldValueDuplicate",
    "NotFound": "FieldValueNotFound",
    "Internal": "InternalError",
}


class AdmissionRequest(NamedTuple):
    """One request of the API server. ``object`` is empty for DELETE, ``old`` for CREATE."""

    uid: str
    kind: str
    operation: str
    namespace: str
    name: str
    object: Object
    old: Object
    dry_run: bool = False


class _Kind(Struct):
    kind: str
    group: str = ""


class _Metadata(Struct, rename="camel"):
    """What hooks read of an object without asking whether it is there."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 1
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    owner_references: list[_Owner] | None = None


class _Owner(Struct, rename="camel"):
    kind: str
    name: str
    uid: str
    api_version: str
    controller: bool | None = None


class _Object(Struct):
    kind: str
    metadata: _Metadata


class _Request(Struct, rename="camel"):
    uid: str
    kind: _Kind
    operation: str
    namespace: str = ""
    name: str = ""
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = None
    dry_run: bool | None = None


class _Review(Struct, rename="camel"):
    api_version: str
    request: _Request


def read_question(body: bytes, kind: str, group: str) -> AdmissionRequest:
    """The request of a review about an object of this kind. Raises BadInput, MalformedReview."""
    try:
        review = msgspec.json.decode(body, type=_Review)
    except msgspec.MsgspecError as error:
        raise BadInput(f"not an AdmissionReview: {error}") from None
    if review.api_version != API_VERSION:
        raise BadInput(f"AdmissionReviews are of {API_VERSION}, not {review.api_version[:64]!r}")
    asked = review.request
    if (asked.kind.group, asked.kind.kind) != (group, kind):
        told = f"{asked.kind.group}/{asked.kind.kind}"[:_QUOTED_CHARS_MAX]
        raise MalformedReview(f"expected a review of {group}/{kind}, got {told!r}", asked.uid)
    wanted = {CREATE: [asked.object], UPDATE: [asked.object, asked.old_object]}
    for one in wanted.get(asked.operation, ()):
        _check_object(one, asked)
    if asked.namespace and not is_dns_label(asked.namespace):
        told = repr(asked.namespace[:_QUOTED_CHARS_MAX])
        raise MalformedReview(f"{told} is not the name of a namespace", asked.uid)
    return AdmissionRequest(
        asked.uid,
        asked.kind.kind,
        asked.operation,
        asked.namespace,
        asked.name,
        asked.object or {},
        asked.old_object or {},
        bool(asked.dry_run),
    )


def _check_object(one: Object | None, asked: _Request) -> None:
    """Raises MalformedReview."""
    try:
        known = msgspec.convert(one, _Object)
    except msgspec.ValidationError as error:
        raise MalformedReview(
            f"the {asked.operation} review has no object: {error}", asked.uid
        ) from None
    if known.kind != asked.kind.kind:
        told = known.kind[:_QUOTED_CHARS_MAX]
        message = f"the object is a {told!r}, not a {asked.kind.kind}"
        raise MalformedReview(message, asked.uid)


def allowed(uid: str, patch: Sequence[Object] = ()) -> bytes:
    """Yes, with what is to be changed."""
    response: Object = {"uid": uid, "allowed": True}
    if patch:
        encoded = base64.b64encode(msgspec.json.encode(patch)).decode()
        response |= {"patchType": "JSONPatch", "patch": encoded}
    return _review(response)


def denied(
    question: AdmissionRequest, refusals: Sequence[Refusal], *, name: str = "", reason: str = ""
) -> bytes:
    """No: the refusals are the causes of one Status, as the API server words its own.

    ``reason`` of the Status by default: Invalid, AlreadyExists for an object that is there.
    """
    kind, name = question.kind, name or question.name
    first = refusals[0]
    causes = [
        {"reason": _CAUSES[one.kind], "field": one.field, "message": _words(one)}
        for one in refusals
    ]
    if first.kind == ALREADY_EXISTS:
        reason = first.kind
    reason, code = (reason, _CODES[reason]) if reason else _INVALID
    words = "; ".join(_words(one) for one in refusals)
    status = {
        "status": "Failure",
        "message": f"{kind} {name!r} {_IS[reason]}: {words}" if reason in _IS else words,
        "reason": reason,
        "code": code,
        "details": {"name": name, "kind": kind, "causes": causes},
    }
    return _review({"uid": question.uid, "allowed": False, "status": status})


def unable(uid: str, why: str, reason: str = "ServiceUnavailable") -> bytes:
    """Neither yes nor no: the review, or what the answer depends on, cannot be read."""
    status = {"status": "Failure", "message": why, "reason": reason, "code": _CODES[reason]}
    return _review({"uid": uid, "allowed": False, "status": status})


def patch_between(before: Object, after: Object) -> list[Object]:
    """What makes ``before`` into ``after``: whole members of metadata, and the spec."""
    patch: list[Object] = []
    for name, value in after.get("metadata", {}).items():
        if before.get("metadata", {}).get(name) != value:
            patch.append({"op": "add", "path": f"/metadata/{name}", "value": value})
    if before.get("spec") != after.get("spec"):
        patch.append({"op": "add", "path": "/spec", "value": after["spec"]})
    return patch


def _words(refusal: Refusal) -> str:
    where = f"{refusal.field}: " if refusal.field else ""
    return f"{where}{refusal.message}" + (f" ({refusal.remedy})" if refusal.remedy else "")


def _review(response: Object) -> bytes:
    review = {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
    return msgspec.json.encode(review)
