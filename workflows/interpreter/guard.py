"""Keeps clock, randomness and I/O away from workflow code while it runs.

As long as any run's code is running, the functions of ``workflows.api.forbidden`` are replaced, in
their modules, by ones that look whether the caller is workflow code (a context variable) and refuse
if it is; everybody else gets the real one. A refusal fails the workflow task even if the code
swallows the error.
"""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from workflows.api.context import CURRENT, Runtime
from workflows.api.forbidden import FORBIDDEN
from workflows.model.errors import ForbiddenCallError


class _Post(NamedTuple):
    """One module or class: its names as they are at rest and, replaced, while on duty."""

    owner: Any
    real: dict[str, Any]
    guarded: dict[str, Any]


def _guarded(real: Callable[..., Any], name: str, instead: str) -> Callable[..., Any]:
    @functools.wraps(real, updated=())
    def guarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passes everything on
        run = CURRENT.get()
        if run is None:
            return real(*args, **kwargs)
        raise _refusal(run, f"{name} differs from replay to replay: use {instead}")

    return guarded


def _posts() -> tuple[_Post, ...]:
    posts: dict[Any, _Post] = {}
    for owner, instead, names in FORBIDDEN:
        post = posts.setdefault(owner, _Post(owner, {}, {}))
        for name in names:
            called = f"{owner.__name__}.{name}".removesuffix(".__init__")
            post.real[name] = getattr(owner, name)
            post.guarded[name] = _guarded(post.real[name], called, instead)
    return tuple(posts.values())


def _place(owner: Any, names: dict[str, Any]) -> None:  # noqa: ANN401 - a module or a class
    """Every task does it twice, so a module's names go in at once."""
    if isinstance(owner, ModuleType):
        vars(owner).update(names)
        return
    for name, function in names.items():
        setattr(owner, name, function)


_POSTS = _posts()
_refused: dict[int, ForbiddenCallError] = {}
_lock = threading.Lock()
_on_duty = 0
_collects = False
"""Whether garbage is collected when nobody is on duty."""


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
    """Guarded inside. Several may be on duty at once; the last to leave puts everything back.

    No garbage is collected meanwhile: finalizers of strangers, which may need a clock or a thread,
    would run as if workflow code had called them.
    """
    global _on_duty, _collects  # noqa: PLW0603 - modules are global, so is who replaces their functions
    with _lock:
        _on_duty += 1
        if _on_duty == 1:
            _collects = gc.isenabled()
            gc.disable()
            for post in _POSTS:
                _place(post.owner, post.guarded)
    try:
        yield
    finally:
        _refused.pop(id(CURRENT.get()), None)
        with _lock:
            _on_duty -= 1
            if _on_duty == 0:
                for post in _POSTS:
                    _place(post.owner, post.real)
                if _collects:
                    gc.enable()
