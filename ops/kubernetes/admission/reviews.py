"""AdmissionReview v1: decodes requests, encodes responses, and computes patches (RFC 6902)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from core.domain.name_syntax import is_dns_label
from core.errors import BadInput, MalformedReview, Refusal
from core.kubernetes.api_client import Object

API_VERSION: Final = "admission.k8s.io/v1"
CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"
DELETE: Final = "DELETE"

_INVALID: Final = ("Invalid", 422)
_HTTP_CODES: Final = {
    "BadRequest": 400,
    "Forbidden": 403,
    "AlreadyExists": 409,
    "InternalError": 500,
    "ServiceUnavailable": 503,
}

_PREDICATES: Final = {"Invalid": "is invalid", "Forbidden": "is forbidden"}
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
    """A request of the API server. ``object`` is empty for DELETE, ``old`` for CREATE.

    ``name``: "" only for an object whose name is not generated yet.
    """

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
    """The metadata that webhooks read; decoding checks its types."""

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


def read_request(body: bytes, kind: str, group: str) -> AdmissionRequest:
    """Decode the review of an object of this kind.

    Raises BadInput if the body is not an AdmissionReview v1, and MalformedReview for other faults.
    """
    try:
        review = msgspec.json.decode(body, type=_Review)
    except msgspec.MsgspecError as error:
        raise BadInput(f"not an AdmissionReview: {error}") from None
    if review.api_version != API_VERSION:
        raise BadInput(
            f"expected an AdmissionReview of {API_VERSION}, got {review.api_version[:64]!r}"
        )
    request = review.request
    if (request.kind.group, request.kind.kind) != (group, kind):
        quoted = f"{request.kind.group}/{request.kind.kind}"[:_QUOTED_CHARS_MAX]
        raise MalformedReview(f"expected a review of {group}/{kind}, got {quoted!r}", request.uid)
    objects = {CREATE: [request.object], UPDATE: [request.object, request.old_object]}
    if request.old_object is not None:
        objects[DELETE] = [request.old_object]
    name = request.name
    for body_object in objects.get(request.operation, ()):
        # A request that deletes a collection has no name, but each of its reviews has an object.
        decoded = _checked_object(body_object, request)
        name = name or decoded.metadata.name
    if request.namespace and not is_dns_label(request.namespace):
        quoted = repr(request.namespace[:_QUOTED_CHARS_MAX])
        raise MalformedReview(f"{quoted} is not the name of a namespace", request.uid)
    return AdmissionRequest(
        uid=request.uid,
        kind=request.kind.kind,
        operation=request.operation,
        namespace=request.namespace,
        name=name,
        object=request.object or {},
        old=request.old_object or {},
        dry_run=bool(request.dry_run),
    )


def _checked_object(body: Object | None, request: _Request) -> _Object:
    """Raises MalformedReview."""
    try:
        decoded = msgspec.convert(body, _Object)
    except msgspec.ValidationError as error:
        raise MalformedReview(
            f"the {request.operation} review has no valid object: {error}", request.uid
        ) from None
    if decoded.kind != request.kind.kind:
        quoted = decoded.kind[:_QUOTED_CHARS_MAX]
        message = f"the object is a {quoted!r}, not a {request.kind.kind}"
        raise MalformedReview(message, request.uid)
    return decoded


def allowed(uid: str, patch: Sequence[Object] = (), warnings: Sequence[str] = ()) -> bytes:
    """A response that allows the request. The API server passes ``warnings`` to its client."""
    response: Object = {"uid": uid, "allowed": True}
    if warnings:
        response["warnings"] = list(warnings)
    if patch:
        encoded = base64.b64encode(msgspec.json.encode(patch)).decode()
        response |= {"patchType": "JSONPatch", "patch": encoded}
    return _review(response)


def denied(
    request: AdmissionRequest, refusals: Sequence[Refusal], *, name: str = "", reason: str = ""
) -> bytes:
    """A response that denies the request, with a cause for each refusal.

    ``name``: the object's name, by default that of the request. ``reason``: the reason of the
    Status, by default Invalid. If the first refusal is AlreadyExists, that is the reason.
    """
    kind, name = request.kind, name or request.name
    first = refusals[0]
    causes = [
        {"reason": _CAUSES[refusal.kind], "field": refusal.field, "message": _text(refusal)}
        for refusal in refusals
    ]
    if first.kind == ALREADY_EXISTS:
        reason = first.kind
    reason, code = (reason, _HTTP_CODES[reason]) if reason else _INVALID
    text = "; ".join(_text(refusal) for refusal in refusals)
    status = {
        "status": "Failure",
        "message": f"{kind} {name!r} {_PREDICATES[reason]}: {text}"
        if reason in _PREDICATES
        else text,
        "reason": reason,
        "code": code,
        "details": {"name": name, "kind": kind, "causes": causes},
    }
    return _review({"uid": request.uid, "allowed": False, "status": status})


def failed(uid: str, message: str, reason: str = "ServiceUnavailable") -> bytes:
    """A response for a request that could not be validated."""
    status = {
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": _HTTP_CODES[reason],
    }
    return _review({"uid": uid, "allowed": False, "status": status})


def patch_between(before: Object, after: Object) -> list[Object]:
    """The patch: each changed field of metadata, and the whole spec if it changed."""
    patch: list[Object] = []
    for name, value in after.get("metadata", {}).items():
        if before.get("metadata", {}).get(name) != value:
            patch.append({"op": "add", "path": f"/metadata/{name}", "value": value})
    if before.get("spec") != after.get("spec"):
        patch.append({"op": "add", "path": "/spec", "value": after["spec"]})
    return patch


def _text(refusal: Refusal) -> str:
    where = f"{refusal.field}: " if refusal.field else ""
    return f"{where}{refusal.message}" + (f" ({refusal.remedy})" if refusal.remedy else "")


def _review(response: Object) -> bytes:
    review = {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
    return msgspec.json.encode(review)
