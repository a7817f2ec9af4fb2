"""AdmissionReview v1: the question as a value, the answer as JSON, and patches (RFC 6902).

Nothing here decides anything.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from core.domain.refusals import Refusal
from core.errors import BadInput
from core.kubernetes.api import Object

API_VERSION: Final = "admission.k8s.io/v1"
CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"
DELETE: Final = "DELETE"

_CODES: Final = {"AlreadyExists": 409, "NotFound": 404, "Internal": 500}
_INVALID: Final = 422
_CAUSES: Final = {
    "Invalid": "FieldValueInvalid",
    "Forbidden": "FieldValueForbidden",
    "NotSupported": "FieldValueNotSupported",
    "Required": "FieldValueRequired",
    "AlreadyExists": "FieldValueDuplicate",
    "NotFound": "FieldValueNotFound",
    "Internal": "InternalError",
}


class Question(NamedTuple):
    """One request of the API server. ``object`` is empty for DELETE, ``old`` for CREATE."""

    uid: str
    kind: str
    operation: str
    namespace: str
    name: str
    object: Object
    old: Object


class _Kind(Struct):
    kind: str


class _Request(Struct, rename="camel"):
    uid: str
    kind: _Kind
    operation: str
    namespace: str = ""
    name: str = ""
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = None


class _Review(Struct, rename="camel"):
    api_version: str
    request: _Request


def read_question(body: bytes) -> Question:
    """The request of a review. Raises BadInput."""
    try:
        review = msgspec.json.decode(body, type=_Review)
    except msgspec.MsgspecError as error:
        raise BadInput(f"not an AdmissionReview: {error}") from None
    if review.api_version != API_VERSION:
        raise BadInput(f"AdmissionReviews are of {API_VERSION}, not {review.api_version[:64]!r}")
    asked = review.request
    return Question(
        asked.uid,
        asked.kind.kind,
        asked.operation,
        asked.namespace,
        asked.name,
        asked.object or {},
        asked.old_object or {},
    )


def allowed(uid: str, patch: Sequence[Object] = ()) -> bytes:
    """Yes, with what is to be changed."""
    response: Object = {"uid": uid, "allowed": True}
    if patch:
        encoded = base64.b64encode(msgspec.json.encode(patch)).decode()
        response |= {"patchType": "JSONPatch", "patch": encoded}
    return _review(response)


def denied(uid: str, kind: str, name: str, refusals: Sequence[Refusal]) -> bytes:
    """No: the refusals are the causes of one Status, as the API server words its own."""
    first = refusals[0]
    causes = [
        {"reason": _CAUSES[one.kind], "field": one.field, "message": _words(one)}
        for one in refusals
    ]
    status = {
        "status": "Failure",
        "message": f"{kind} {name!r} is invalid: {'; '.join(_words(one) for one in refusals)}",
        "reason": first.kind if first.kind in _CODES else "Invalid",
        "code": _CODES.get(first.kind, _INVALID),
        "details": {"name": name, "kind": kind, "causes": causes},
    }
    return _review({"uid": uid, "allowed": False, "status": status})


def unable(uid: str, why: str) -> bytes:
    """Neither yes nor no: what the answer depends on cannot be read now."""
    status = {"status": "Failure", "message": why, "reason": "ServiceUnavailable", "code": 503}
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
