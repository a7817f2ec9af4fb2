"""gRPC's status codes, and the error of a failed call.

Sources in gRPC: statuscodes.md; http-grpc-status-mapping.md for answers with only an HTTP status.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class StatusCode(IntEnum):
    """A call's status."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A failed call.

    If ``processed`` is False, the server certainly did not process the request; even a write may be
    repeated.
    """

    def __init__(self, code: StatusCode, details: str, *, processed: bool = True) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details
        self.processed = processed


_HTTP_STATUS: Final = {
    400: StatusCode.INTERNAL,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.UNIMPLEMENTED,
    429: StatusCode.UNAVAILABLE,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}


def status_code(number: int) -> StatusCode:
    """The code with this number; UNKNOWN if gRPC does not define it."""
    try:
        return StatusCode(number)
    except ValueError:
        return StatusCode.UNKNOWN


def http_error(status: int) -> RpcError:
    """The error for an answer without a gRPC status, such as a proxy's."""
    code = _HTTP_STATUS.get(status, StatusCode.UNKNOWN)
    return RpcError(code, f"HTTP status {status} instead of a gRPC answer")
