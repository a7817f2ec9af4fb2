"""The status code and error text of a failed call tell whether etcd may have written data."""

from __future__ import annotations

import pytest

from core.errors import (
    OutcomeUnknown,
    StoreError,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
)
from core.eventstore.etcd.failures import (
    CallState,
    as_call_failed,
    classify,
    read_error,
    write_error,
)
from core.eventstore.etcd.http2 import RpcError, StatusCode

CASES = [
    # etcd refused before it processed the request.
    ("UNAVAILABLE", "etcdserver: no leader", "NOTHING_WRITTEN"),
    ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", "NOTHING_WRITTEN"),
    ("FAILED_PRECONDITION", "etcdserver: rpc not supported for learner", "NOTHING_WRITTEN"),
    # The same request would fail again.
    ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request", "REJECTED"),
    ("INVALID_ARGUMENT", "etcdserver: request is too large", "REJECTED"),
    ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request", "REJECTED"),
    ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (3 vs. 2)", "REJECTED"),
    ("PERMISSION_DENIED", "etcdserver: permission denied", "REJECTED"),
    ("NOT_FOUND", "etcdserver: requested lease not found", "REJECTED"),
    ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision", "REJECTED"),
    ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", "COMPACTED"),
    # The request succeeds with a new token.
    ("UNAUTHENTICATED", "etcdserver: invalid auth token", "STALE_TOKEN"),
    ("INVALID_ARGUMENT", "etcdserver: user name is empty", "STALE_TOKEN"),
    ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", "STALE_TOKEN"),
    # etcd may have applied the request.
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
    CallState.REJECTED: StoreRejected,
    CallState.STALE_TOKEN: StoreRejected,
    CallState.COMPACTED: StoreRejected,
    CallState.UNKNOWN: OutcomeUnknown,
}


@pytest.mark.parametrize(("code", "details", "state"), CASES)
def test_status_code_and_error_text_determine_the_state(
    code: str, details: str, state: str
) -> None:
    assert classify(StatusCode[code], details).state is CallState[state]


@pytest.mark.parametrize("code", StatusCode)
def test_a_call_that_was_not_processed_wrote_nothing(code: StatusCode) -> None:
    error = RpcError(code, "no connection", processed=False)

    assert as_call_failed(error).failure.state is CallState.NOTHING_WRITTEN


@pytest.mark.parametrize("state", CallState)
def test_a_failed_write_has_one_error_class_for_each_call_state(state: CallState) -> None:
    code, details, _ = next(case for case in CASES if case[2] == state.name)

    error = write_error(classify(StatusCode[code], details), "etcd:2379")

    assert type(error) is WRITE_ERRORS[state]
    assert error.subject == "etcd:2379"
    assert details in str(error)
    assert error.remedy


@pytest.mark.parametrize(("code", "details"), [case[:2] for case in CASES if "large" in case[1]])
def test_the_error_of_a_request_that_is_too_large_names_the_limit_of_etcd(
    code: str, details: str
) -> None:
    error = write_error(classify(StatusCode[code], details), "etcd:2379")

    assert "--max-request-bytes" in error.remedy
    assert "credentials" not in error.remedy


def test_a_read_with_an_unknown_outcome_raises_unavailable_or_timeout() -> None:
    closed_error = read_error(classify(StatusCode.UNAVAILABLE, "Socket closed"), "etcd:2379")
    deadline_error = read_error(classify(StatusCode.DEADLINE_EXCEEDED, ""), "etcd:2379")

    assert type(closed_error) is StoreUnavailable
    assert type(deadline_error) is StoreTimeout


def test_eight_status_codes_without_error_text_mean_nothing_was_written() -> None:
    definite_states = {CallState.NOTHING_WRITTEN, CallState.REJECTED}

    states = {code: classify(code, "").state for code in StatusCode}

    assert {code.name for code, state in states.items() if state in definite_states} == {
        *("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"),
        *("FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED", "UNAUTHENTICATED"),
    }
