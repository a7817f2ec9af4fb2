"""Keeps clock, randomness and I/O away from workflow code while it runs.

As long as any run's code is running, the functions of ``workflows.api.forbidden`` are replaced, in
their modules, by ones that look whether the caller is workflow code (a context variable) and refuse
if it is; everybody else gets the real one. A refusal fails the workflow task even if the code
swallows the error.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from workflows.api.context import CURRENT, Runtime
from workflows.api.forbidden import FORBIDDEN
from workflows.model.errors import ForbiddenCallError


class _Post(NamedTuple):
    """One replaced name: ``owner.name`` is ``real`` at rest and ``guarded`` while on duty."""

    owner: Any
    name: str
    real: Any
    guarded: Any


def _guarded(real: Callable[..., Any], name: str, instead: str) -> Callable[..., Any]:
    @functools.wraps(real, updated=())
    def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passes everything on
        run = CURRENT.get()
        if run is None:
            return real(*args, **kwargs)
        raise _refusal(run, f"{name} differs from replay to replay: use {instead}")

    return guarded


def _posts() -> tuple[_Post, ...]:
    posts = []
    for owner, instead, names in FORBIDDEN:
        for name in names:
            real = getattr(owner, name)
            called = f"{owner.__name__}.{name}".removesuffix(".__init__")
            posts.append(_Post(owner, name, real, _guarded(real, called, instead)))
    return tuple(posts)


_POSTS = _posts()
_refused: dict[int, ForbiddenCallError] = {}
_lock = threading.Lock()
_on_duty = 0


def _refusal(run: Runtime, message: str) -> ForbiddenCallError:
    error = ForbiddenCallError(message)
    _refused.setdefault(id(run), error)
    return error


def check() -> None:
    """Raise what the running code was refused, in case it swallowed the error."""
    if _refused:
        error = _refused.pop(id(CURRENT.get()), None)
        if error is not None:
            raise error


@contextmanager
def on_duty() -> Iterator[None]:
    """Guarded inside. Several may be on duty at once; the last to leave puts everything back."""
    global _on_duty  # noqa: PLW0603 - modules are global, so is who replaces their functions
    with _lock:
        _on_duty += 1
        if _on_duty == 1:
            for owner, name, _, guarded in _POSTS:
                setattr(owner, name, guarded)
    try:
        yield
    finally:
        _refused.pop(id(CURRENT.get()), None)
        with _lock:
            _on_duty -= 1
            if _on_duty == 0:
                for owner, name, real, _ in _POSTS:
                    setattr(owner, name, real)
