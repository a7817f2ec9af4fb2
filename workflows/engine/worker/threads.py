"""Plain (not async) activities run in threads, so that they do not block the event loop.

A thread cannot be stopped: a cancelled activity occupies its slot until it returns. Its next
heartbeat raises CancelledError.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any

ACTIVITY_THREADS_MAX = 32
"""Plain activities that one worker runs concurrently."""


def run_in_thread(
    function: Callable[..., object],
    arguments: Sequence[object],
    *,
    name: str,
    ended: Callable[[], None],
) -> asyncio.Future[Any]:
    """Run a function in a thread. After its end, call ``ended`` in the event loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = copy_context()

    def deliver(result: object, error: BaseException | None) -> None:
        ended()
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result: object = None
        failure: BaseException | None = None
        try:
            result = context.run(function, *arguments)
        except StopIteration as error:
            failure = RuntimeError(f"{name} raised {error!r}")
        except BaseException as error:  # noqa: BLE001 - raised by the future
            failure = error
        with suppress(RuntimeError):  # the event loop is closed: the process ends
            loop.call_soon_threadsafe(deliver, result, failure)

    threading.Thread(target=work, name=f"activity {name}", daemon=True).start()
    return future
