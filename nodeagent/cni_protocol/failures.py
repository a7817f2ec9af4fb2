"""CNI error objects. docs/reference/agent.md lists the codes.

The text of an error contains no traceback.
"""

from __future__ import annotations

from typing import Final

import msgspec

from core.errors import (
    AddressConflict,
    AddressesUsedOut,
    AllocationError,
    BadInput,
    DatapathError,
    DetectionFailed,
    GatewayUnreachable,
    LogError,
    NoPoolAvailable,
    OrbweaverError,
    Refused,
    StoreRejected,
    WrongInput,
)

# Codes of the CNI specification (SPEC.md 1.1.0, "Error").
INCOMPATIBLE_VERSION: Final = 1
INVALID_ENVIRONMENT: Final = 4
UNDECODABLE_CODE: Final = 6
INVALID_CONFIG: Final = 7
TRY_AGAIN_LATER: Final = 11
NOT_AVAILABLE: Final = 50
LIMITED_CONNECTIVITY: Final = 51

# Codes of this project.
FRAME_REFUSED: Final = 101
USED_OUT: Final = 110
NO_POOL: Final = 111
WRONG_INPUT: Final = 112
NOT_ALLOCATED: Final = 113
NO_ADDRESS_FOR_INTERFACE: Final = 114
REFUSED: Final = 115
CONFLICT_CODE: Final = 116
GATEWAY_UNREACHABLE: Final = 117
DETECTION_FAILED: Final = 118
INTERFACE_NOT_PREPARED: Final = 119
CHECK_FAILED: Final = 120
GC_INCOMPLETE: Final = 121
DATAPATH_FAILED: Final = 122
STORE_REFUSES: Final = 130
LOG_BROKEN: Final = 131
INTERNAL_CODE: Final = 999

UNHEALTHY_PREFIX: Final = "unhealthy spiderpool-agent backend, failed to check: "
ALLOCATION_ERROR: Final = "spiderpool IP allocation error: "
RELEASE_ERROR: Final = "spiderpool IP release error: "
"""Users match these prefixes (docs/reference/pool-selection.md, "Error texts")."""

_CODES: Final[tuple[tuple[type[OrbweaverError], int], ...]] = (
    (AddressesUsedOut, USED_OUT),
    (NoPoolAvailable, NO_POOL),
    (WrongInput, WRONG_INPUT),
    (AddressConflict, CONFLICT_CODE),
    (GatewayUnreachable, GATEWAY_UNREACHABLE),
    (DetectionFailed, DETECTION_FAILED),
    (StoreRejected, STORE_REFUSES),
    (LogError, LOG_BROKEN),
    (Refused, REFUSED),
    (DatapathError, DATAPATH_FAILED),
    (BadInput, INVALID_CONFIG),
)
"""The first matching class gives the code. Retryable errors have TRY_AGAIN_LATER, except
the subclasses of ``AllocationError`` in this table, because users match their codes.
"""


class CniFailure(Exception):
    """A CNI error object. ``message``: what happened. ``details``: what to do."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def prefixed(self, prefix: str) -> CniFailure:
        """The same failure with ``prefix`` before the message."""
        return CniFailure(self.code, prefix + self.message, self.details)


def failure_of(error: Exception) -> CniFailure:
    """The CNI failure of an error."""
    if isinstance(error, CniFailure):
        return error
    if not isinstance(error, OrbweaverError):
        return CniFailure(
            INTERNAL_CODE,
            f"{type(error).__name__}: {error}",
            "see the agent's log for the traceback",
        )
    return CniFailure(_code(error), error.message, error.remedy)


def _code(error: OrbweaverError) -> int:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if error.retryable and (code is None or not isinstance(error, AllocationError)):
        return TRY_AGAIN_LATER
    if code is not None:
        return code
    return NOT_ALLOCATED if isinstance(error, AllocationError) else INTERNAL_CODE


def error_object(version: str, failure: CniFailure) -> bytes:
    """Encode a failure as JSON."""
    document = {
        "cniVersion": version,
        "code": failure.code,
        "msg": failure.message,
        "details": failure.details,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=4) + b"\n"
