"""The table from etcd's error texts to the effect on the data."""

from __future__ import annotations

import pytest

from core.errors import (
    OutcomeUnknown,
    StoreError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
)
from core.eventstore.etcd.failures import CallState, classify, judged, read_error, write_error
from core.eventstore.etcd.http2 import RpcError, StatusCode

CASES = [
    # Certain: etcd refused before it processed the request.
    ("UNAVAILABLE", "etcdserver: no leader", "NOTHING_WRITTEN"),
    ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", "NOTHING_WRITTEN"),
    ("FAILED_PRECONDITION", "etcdserver: rpc not supported for learner", "NOTHING_WRITTEN"),
    # Refused; repeating it fails again.
    ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request", "REFUSED"),
    ("INVALID_ARGUMENT", "etcdserver: request is too large", "REFUSED"),
    ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request", "REFUSED"),
    ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (3 vs. 2)", "REFUSED"),
    ("PERMISSION_DENIED", "etcdserver: permission denied", "REFUSED"),
    ("NOT_FOUND", "etcdserver: requested lease not found", "REFUSED"),
    ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision", "REFUSED"),
    # A new token helps.
    ("UNAUTHENTICATED", "etcdserver: invalid auth token", "STALE_TOKEN"),
    ("INVALID_ARGUMENT", "etcdserver: user name is empty", "STALE_TOKEN"),
    ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", "STALE_TOKEN"),
    ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", "COMPACTED"),
    # May have been applied.
    ("UNAVAILABLE", "etcdserver: request timed out", "UNKNOWN"),
    (
        "UNAVAILABLE",
        "etcdserver: request timed out, possibly due to previous leader failure",
        "UNKNOWN",
    ),
    ("UNAVAILABLE", "etcdserver: leader changed", "UNKNOWN"),
    ("UNAVAILABLE", "etcdserver: server stopped", "UNKNOWN"),
    ("UNAVAILABLE", "Socket closed", "UNKNOWN"),
    ("UNAVAILABLE", "", "UNKNOWN"),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", "UNKNOWN"),
    ("CANCELLED", "etcdserver: request canceled", "UNKNOWN"),
    ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", "UNKNOWN"),
    ("UNKNOWN", "something new", "UNKNOWN"),
    ("INTERNAL", "something new", "UNKNOWN"),
    ("DATA_LOSS", "etcdserver: corrupt cluster", "UNKNOWN"),
]

WRITE_ERRORS: dict[CallState, type[StoreError]] = {
    CallState.NOTHING_WRITTEN: StoreUnavailable,
    CallState.REFUSED: StoreRejected,
    CallState.STALE_TOKEN: StoreRejected,
    CallState.COMPACTED: StoreRejected,
    CallState.UNKNOWN: OutcomeUnknown,
}


@pytest.mark.parametrize(("code", "details", "nature"), CASES)
def test_a_status_is_judged_by_what_it_proves(code: str, details: str, nature: str) -> None:
    assert classify(StatusCode[code], details).nature is CallState[nature]


@pytest.mark.parametrize("code", StatusCode)
def test_a_call_that_was_not_processed_wrote_nothing(code: StatusCode) -> None:
    error = RpcError(code, "no connection", processed=False)

    assert judged(error).failure.nature is CallState.NOTHING_WRITTEN


@pytest.mark.parametrize("nature", CallState)
def test_a_failed_write_becomes_the_error_of_its_nature(nature: CallState) -> None:
    code, details, _ = next(case for case in CASES if case[2] == nature.name)

    error = write_error(classify(StatusCode[code], details), "etcd:2379")

    assert type(error) is WRITE_ERRORS[nature]
    assert error.subject == "etcd:2379"
    assert details in str(error)
    assert error.remedy


def test_an_unknown_status_is_no_danger_to_a_read() -> None:
    lost = read_error(classify(StatusCode.UNAVAILABLE, "Socket closed"), "etcd:2379")
    late = read_error(classify(StatusCode.DEADLINE_EXCEEDED, ""), "etcd:2379")

    assert type(lost) is StoreUnavailable
    assert type(late) is StoreTimeout


def test_every_status_of_grpc_is_judged() -> None:
    certain = {CallState.NOTHING_WRITTEN, CallState.REFUSED}

    judged = {code: classify(code, "").nature for code in StatusCode}

    assert {code.name for code, nature in judged.items() if nature in certain} == {
        *("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"),
        *("FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED", "UNAUTHENTICATED"),
    }
