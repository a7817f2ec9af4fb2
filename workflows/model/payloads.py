"""Arguments and results as plain data: None, bool, int, float, str, list and dict.

Plain data is the same in msgpack and JSON. The receiver converts it to the types that its
annotations name. Sets and mappings are sorted, so that equal values give equal bytes.
"""

# ruff: noqa: ANN401 - plain data and converted values have any type
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from workflows.model.errors import LimitExceeded, PayloadError
from workflows.model.limits import PAYLOAD_ERROR_BYTES

Payload = Any
"""Plain data. Never changed in place."""

_encoder = msgspec.msgpack.Encoder()
_PLAIN = (str, int, float, bool, type(None))


def to_payload(value: object, *, what: str) -> Payload:
    """Convert to plain data. ``what`` names the value in errors.

    Raises PayloadError, LimitExceeded.
    """
    if isinstance(value, _PLAIN) and type(value) in _PLAIN:
        if isinstance(value, str) and len(value) * 4 > PAYLOAD_ERROR_BYTES:
            check_payload_size(value, what=what)
        return value
    try:
        plain = msgspec.to_builtins(value, str_keys=True, order="deterministic")
        check_payload_size(plain, what=what)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PayloadError(f"{what} cannot be stored: {error}") from error
    return plain


def from_payload(payload: Payload, kind: Any, *, what: str) -> Any:
    """The typed value of plain data. Raises PayloadError."""
    if kind is Any or kind is object:
        return payload
    try:
        return msgspec.convert(payload, kind)
    except (msgspec.ValidationError, TypeError) as error:
        raise PayloadError(f"{what} does not fit {kind}: {error}") from error


def to_payloads(values: Sequence[object], *, what: str) -> tuple[Payload, ...]:
    """Arguments as plain data. Raises PayloadError, LimitExceeded."""
    payloads = tuple(to_payload(value, what=what) for value in values)
    if len(payloads) > 1:
        check_payload_size(payloads, what=what)
    return payloads


def payload_bytes(payload: Payload) -> int:
    """The stored size in bytes."""
    return len(_encoder.encode(payload))


def check_payload_size(payload: Payload, *, what: str) -> None:
    """Raise LimitExceeded for more than ``PAYLOAD_ERROR_BYTES``."""
    size = payload_bytes(payload)
    if size > PAYLOAD_ERROR_BYTES:
        raise LimitExceeded(
            f"{what}: {size} bytes, PAYLOAD_ERROR_BYTES is {PAYLOAD_ERROR_BYTES}: store the value"
            " elsewhere and pass a reference"
        )
