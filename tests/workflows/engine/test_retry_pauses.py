"""Pauses between attempts grow to a limit, and only retryable failures are retried."""

from __future__ import annotations

import pytest

from core.errors import BadInput, StoreUnavailable
from core.process.retry import Backoff, is_retryable, pause_s, retry_until_done
from tests.support.engine_harness import EngineHarness, eventually
from tests.support.engine_samples import Basket


def test_pauses_double_up_to_their_limit() -> None:
    assert [pause_s(failures, 0.5, 3.0) for failures in (0, 1, 2, 3, 4, 10_000)] == [
        0.5, 0.5, 1.0, 2.0, 3.0, 3.0
    ]  # fmt: skip


def test_an_unavailable_store_is_retryable_but_bad_input_and_a_bug_are_not() -> None:
    assert is_retryable(StoreUnavailable("etcd is away"))
    assert not is_retryable(BadInput("no such pool"))
    assert not is_retryable(ValueError("a bug"))


async def test_work_is_repeated_until_it_succeeds_or_raises_a_permanent_error() -> None:
    failures: list[Exception] = [StoreUnavailable("away"), StoreUnavailable("away")]
    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        if failures:
            raise failures.pop()

    await retry_until_done(work, "the work", Backoff(0.0))
    assert calls == 3

    failures.append(BadInput("no such pool"))
    with pytest.raises(BadInput):
        await retry_until_done(work, "the work", Backoff(0.0))


async def test_start_or_signal_starts_an_execution_once_and_then_signals_it(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    for word in ("first", "second", "third"):
        await engine.client.start_or_signal(Basket, id="one", signal="put", signal_args=[word])

    async def has_two_signals() -> bool:
        return (await engine.head("one")).signals == 2  # the first call only starts the execution

    await eventually(has_two_signals)
    assert (await engine.head("one")).workflow_type == "Basket"
