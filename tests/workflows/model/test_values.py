"""The values of ``workflows.model``."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, get_type_hints

import pytest

from workflows.engine.run.retries import RetryAfter, after_failure
from workflows.engine.store.records import decode_history, encode_history
from workflows.model import errors, events, limits
from workflows.model.commands import COMMAND_NAMES, IDENTITY_FIELDS, Command, is_recorded_by
from workflows.model.events import EVENT_TYPES, HistoryEvent
from workflows.model.failures import Failure, FailureKind, error_of, failure_of
from workflows.model.history_json import from_json, to_json
from workflows.model.payloads import from_payload, to_payload
from workflows.model.policies import ExecutionStatus, RetryPolicy, Timeouts

FAILURE = Failure(
    FailureKind.ACTIVITY,
    "gone",
    "release",
    subject="3",
    cause=Failure(FailureKind.APPLICATION, "full", "PoolFull", details=({"pool": "a"},)),
)


def example(kind: type) -> object:
    """An event or command with a value in every field."""
    values: dict[str, object] = {"int": 7, "str": "text", "float": 1.5, "bool": True}
    filled: list[object] = []
    for name, hint in get_type_hints(kind).items():
        text = str(getattr(hint, "__name__", hint))
        if isinstance(hint, type) and issubclass(hint, Enum):
            filled.append(list(hint)[-1])
        elif "Failure" in str(hint):
            filled.append(FAILURE)
        elif "ParentRef" in str(hint):
            filled.append(events.ParentRef("Parent", "p", "r", 2))
        elif hint in {Timeouts, RetryPolicy}:
            filled.append(hint(5.0))
        elif text in values:
            filled.append(values[text])
        else:
            filled.append({"a": [1]} if name in {"search_attributes", "memo"} else (1, "x"))
            if name == "result":
                filled[-1] = {"deep": [None, 1.5]}
    return kind(*filled)


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_every_event_is_equal_after_encoding_and_decoding(name: str) -> None:
    attributes = example(EVENT_TYPES[name])
    event = HistoryEvent(1, 1_700_000_000_000, attributes)  # type: ignore[arg-type]

    assert decode_history(encode_history([event])) == [event]
    assert from_json(to_json([event])) == [event]


def test_every_command_has_a_name_and_identity_fields() -> None:
    kinds = set(Command.__args__)

    assert kinds == set(COMMAND_NAMES) == set(IDENTITY_FIELDS)
    for kind in kinds:
        command = example(kind)
        assert is_recorded_by(command, command)  # type: ignore[arg-type]


def test_a_failure_is_converted_to_an_error_and_back_with_all_causes() -> None:
    error = error_of(FAILURE)

    assert isinstance(error, errors.ActivityError)
    assert (error.type, error.subject) == ("release", "3")
    assert isinstance(error.__cause__, errors.ApplicationError)
    assert error.__cause__.details == ({"pool": "a"},)
    assert failure_of(error) == FAILURE


@pytest.mark.parametrize(
    "error",
    [
        errors.CancelledError("c"),
        errors.TerminatedError("t"),
        errors.TimeoutError("late", type="Heartbeat"),
        errors.ChildWorkflowError("child", type="T", subject="id"),
        errors.ApplicationError("a", 1, type="X", non_retryable=True, next_retry_delay_s=2),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_workflow_error_is_converted_to_data_and_back(error: BaseException) -> None:
    back = error_of(failure_of(error))

    assert type(back) is type(error)
    assert (str(back), vars(back)) == (str(error), vars(error))


def test_a_long_chain_of_causes_and_a_long_message_are_truncated() -> None:
    error: BaseException = ValueError("x" * 10_000)
    for _ in range(50):
        outer = ValueError("outer")
        outer.__cause__ = error
        error = outer
    failure: Failure | None = failure_of(error)

    depth = 0
    while failure is not None:
        depth, failure = depth + 1, failure.cause
    assert depth == limits.FAILURE_DEPTH_MAX + 1
    longest = failure_of(ValueError("x" * 10_000)).message
    assert len(longest) == limits.FAILURE_MESSAGE_CHARS_MAX


def pause_s(policy: RetryPolicy, attempt: int) -> float:
    verdict = after_failure(policy, Timeouts(), FAILURE, attempt=attempt, age_s=0)
    assert isinstance(verdict, RetryAfter)
    return verdict.pause_s


def test_the_default_retry_policy_is_that_of_temporal() -> None:
    policy = RetryPolicy()

    assert [pause_s(policy, attempt) for attempt in (1, 2, 3, 8, 10_000)] == [1, 2, 4, 100, 100]
    assert (policy.maximum_attempts, policy.non_retryable) == (0, ())


def test_a_payload_is_plain_data_for_every_type_of_value() -> None:
    class Pair(NamedTuple):
        first: str
        second: frozenset[int]

    plain = to_payload(Pair("a", frozenset({3, 1, 2})), what="the value")

    assert tuple(plain) == ("a", [1, 2, 3])
    assert from_payload(list(plain), Pair, what="the value") == Pair("a", frozenset({1, 2, 3}))


@pytest.mark.parametrize("value", ["x" * 70_000, ["y" * 70_000], list(range(40_000))])
def test_a_payload_above_the_limit_is_rejected(value: object) -> None:
    with pytest.raises(errors.LimitExceeded, match="PAYLOAD_ERROR_BYTES"):
        to_payload(value, what="the value")


def test_a_payload_error_names_the_value() -> None:
    with pytest.raises(errors.PayloadError, match="the result of x cannot be stored"):
        to_payload(object(), what="the result of x")
    with pytest.raises(errors.PayloadError, match="the value does not fit"):
        from_payload("text", int, what="the value")


def test_only_running_and_paused_executions_are_open() -> None:
    assert {status for status in ExecutionStatus if status.open} == {
        ExecutionStatus.RUNNING,
        ExecutionStatus.PAUSED,
    }


def test_the_docstring_of_the_errors_module_lists_every_error() -> None:
    listed = [
        line.split("── ")[1].split()[0]
        for line in str(errors.__doc__).splitlines()
        if "── " in line
    ]
    classes = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.WorkflowError)
    }

    assert sorted(listed) == sorted(classes - {"WorkflowError", "_SubjectError"})
