"""Classify failed calls by their effect on the data.

A failure that is not listed is UNKNOWN, so callers do not repeat a write after an unfamiliar
message. They find the effect by a read (invariant I9 of docs/contributing/architecture.md).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from core.errors import (
    LeaseGone,
    OutcomeUnknown,
    StoreError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
)
from core.eventstore.etcd.http2 import RpcError, StatusCode
from core.eventstore.full_etcd import store_full


class CallState(Enum):
    """A failed call's effect on the data."""

    REJECTED = "rejected"
    """Nothing was written; etcd would reject the request again."""

    NOTHING_WRITTEN = "nothing written"
    """The request did not reach etcd's log. A retry may succeed."""

    STALE_TOKEN = "stale token"  # noqa: S105  # the name of a failure, not a secret
    """Nothing was written; a new token is needed."""

    COMPACTED = "compacted"

    UNKNOWN = "unknown"
    """A write may have been applied."""


NO_SPACE: Final = "etcdserver: mvcc: database space exceeded"


class CallFailure(NamedTuple):
    """One failed call. ``text``: the message of etcd or of the transport.

    ``remedy``: replaces the usual remedy of a StoreUnavailable, unless "".
    """

    state: CallState
    text: str
    timed_out: bool = False
    remedy: str = ""

    @property
    def is_full(self) -> bool:
        """Whether the database is full."""
        return self.text.startswith(NO_SPACE)


_STALE_TOKEN = (
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    # The call had no token: authentication was still disabled when the client requested one.
    "etcdserver: user name is empty",
)

_NOT_PROCESSED = (
    # etcd returns these errors before it processes the request.
    "etcdserver: no leader",
    "etcdserver: not capable",
    "etcdserver: rpc not supported for learner",
    # etcd rejects proposals while too many entries of its log are not applied.
    "etcdserver: too many requests",
)

# Maintenance calls return these texts with the status UNKNOWN, but etcd checks permissions first,
# so the request had no effect.
_NOT_PERMITTED = ("auth: permission denied", "etcdserver: permission denied")

_LEASE_GONE = "etcdserver: requested lease not found"

_REJECTING_CODES = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND,
        StatusCode.ALREADY_EXISTS,
        StatusCode.PERMISSION_DENIED,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.OUT_OF_RANGE,
        StatusCode.UNIMPLEMENTED,
        StatusCode.UNAUTHENTICATED,
    }
)

_TOO_LARGE = "etcdserver: request is too large"

# gRPC checks this limit before etcd gets the request, so nothing was written. The status
# RESOURCE_EXHAUSTED is not enough: "database space exceeded" has the same status, and may arrive
# after the write was applied.
_TOO_LARGE_TO_RECEIVE = "grpc: received message larger than max"


def classify(code: StatusCode, details: str) -> CallFailure:
    """Classify a call that failed with status ``code``. ``details``: etcd's message."""
    text = details or code.name
    if details.startswith(_STALE_TOKEN):
        return CallFailure(CallState.STALE_TOKEN, text)
    if details.startswith(_NOT_PROCESSED):
        return CallFailure(CallState.NOTHING_WRITTEN, text)
    if code is StatusCode.OUT_OF_RANGE and "has been compacted" in details:
        return CallFailure(CallState.COMPACTED, text)
    if code in _REJECTING_CODES or details.startswith((_TOO_LARGE_TO_RECEIVE, *_NOT_PERMITTED)):
        return CallFailure(CallState.REJECTED, text)
    return CallFailure(CallState.UNKNOWN, text, timed_out=code is StatusCode.DEADLINE_EXCEEDED)


class CallFailed(Exception):
    """A failed call, for this package only: its callers get errors of ``core.errors``."""

    def __init__(self, failure: CallFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def as_call_failed(error: RpcError) -> CallFailed:
    """Classify an error of the transport."""
    if not error.processed:
        return CallFailed(CallFailure(CallState.NOTHING_WRITTEN, error.details))
    return CallFailed(classify(error.code, error.details))


def write_error(failure: CallFailure, endpoint: str) -> StoreError:
    """The error of a failed write; OutcomeUnknown if the write may have been applied."""
    if failure.state is CallState.NOTHING_WRITTEN:
        return _unavailable(failure, endpoint)
    if failure.state is CallState.UNKNOWN:
        unknown = OutcomeUnknown(
            f"it is unknown whether a write was applied: {failure.text}",
            subject=endpoint,
            remedy="check whether the change was made before you repeat it",
        )
        unknown.is_full = failure.is_full
        return unknown
    return _rejected(failure, endpoint)


def read_error(failure: CallFailure, endpoint: str) -> StoreError:
    """The error of a failed read or other idempotent call."""
    if failure.is_full:
        return store_full(endpoint)
    if failure.timed_out:
        return StoreTimeout(
            f"etcd did not answer in time: {failure.text}",
            subject=endpoint,
            remedy="check etcd's health and load, then try again",
        )
    if failure.state in (CallState.NOTHING_WRITTEN, CallState.UNKNOWN):
        return _unavailable(failure, endpoint)
    return _rejected(failure, endpoint)


def _unavailable(failure: CallFailure, endpoint: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"etcd cannot be used now: {failure.text}",
        subject=endpoint,
        remedy=failure.remedy or "check etcd's health and the configured endpoints, then try again",
    )


def _rejected(failure: CallFailure, endpoint: str) -> StoreRejected:
    if failure.text.startswith(_LEASE_GONE):
        return LeaseGone(
            f"the lease of the request has ended: {failure.text}",
            subject=endpoint,
            remedy="agents and controllers request another lease by themselves; if the error"
            " recurs, check etcd's load",
        )
    remedy = "correct the request, the credentials or the role; a retry fails again"
    if failure.text.startswith((_TOO_LARGE, _TOO_LARGE_TO_RECEIVE)):
        remedy = "make the object smaller, or raise --max-request-bytes of every etcd member"
    if failure.state is CallState.STALE_TOKEN:
        remedy = "try again; if the error recurs, check the user and the password for etcd"
    return StoreRejected(
        f"etcd refuses the request: {failure.text}", subject=endpoint, remedy=remedy
    )
