"""Reads the code of a workflow type, and of all that it reaches by name, for what it may not call.

From the methods of the class it follows global names, imports, helper functions and modules, and
the methods of helper classes whose names the code uses; never into activities, the standard
library, packages of others or the language of workflows itself. The modules it came through are
remembered: in them ``workflows.interpreter.guard`` replaces what was imported by name.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import sys
import types
from collections.abc import Collection, Iterator
from typing import Any

from workflows.api.forbidden_calls import reason_against
from workflows.model.errors import ForbiddenCallError

MARK = "__orbweaver_role__"
"""The attribute that marks decorated functions."""

_LANGUAGE = ("workflows.api", "workflows.model", "workflows.interpreter", "workflows.engine")
_PACKAGES_OF_OTHERS = ("site-packages", "dist-packages")
_CONSTRUCTORS = ("__new__", "__init__", "__post_init__", "__call__")

_reached: dict[int, dict[str, Any]] = {}


def reached_modules() -> Collection[dict[str, Any]]:
    """The names of every module through which the code of a registered workflow goes."""
    return _reached.values()


def inspect_code(cls: type[Any]) -> None:
    """ForbiddenCallError if the code of a workflow, or helpers that it names, may not be called."""
    reading = _Reading(cls)
    reading.read_all()
    _reached.update({id(names): names for names in reading.modules.values()})


class _Reading:
    """Of one workflow type."""

    def __init__(self, cls: type[Any]) -> None:
        self._home = cls.__module__.partition(".")[0]
        self._seen: set[types.CodeType] = set()
        self._classes: dict[type[Any], None] = {}
        self._attributes: set[str] = set()
        self._waiting: list[types.FunctionType] = []
        self.modules: dict[str, dict[str, Any]] = {}
        for base in cls.__mro__:
            if self._is_followed(base.__module__):
                self._waiting += filter(None, map(_function_of, vars(base).values()))

    def read_all(self) -> None:
        """Until nothing new is reached."""
        while self._waiting:
            while self._waiting:
                self._read(self._waiting.pop())
            for cls in self._classes:
                self._waiting += self._used_methods(cls)

    def _read(self, function: types.FunctionType) -> None:
        if function.__code__ in self._seen:
            return
        self._seen.add(function.__code__)
        self.modules[function.__module__ or ""] = function.__globals__
        for named in _named(function.__code__, function.__globals__, self._attributes):
            reason = reason_against(named)
            if reason:
                raise ForbiddenCallError(f"{function.__qualname__} calls {reason}")
            self._follow(named)

    def _follow(self, named: object) -> None:
        if not self._is_followed(getattr(named, "__module__", None) or type(named).__module__):
            return
        function = _function_of(named)
        if function is not None:
            self._waiting.append(function)
        elif isinstance(named, type):
            self._classes[named] = None
        elif not callable(named) or not hasattr(named, MARK):
            self._classes[type(named)] = None

    def _used_methods(self, cls: type[Any]) -> Iterator[types.FunctionType]:
        """The methods of a helper class that may be called, by their names; no more is known."""
        module = sys.modules.get(cls.__module__)
        if module is not None:
            self.modules[cls.__module__] = vars(module)
        for base in cls.__mro__:
            if self._is_followed(base.__module__):
                for name, member in vars(base).items():
                    function = _function_of(member)
                    is_used = name in self._attributes or name in _CONSTRUCTORS
                    if function is not None and is_used and function.__code__ not in self._seen:
                        yield function

    def _is_followed(self, module: str) -> bool:
        root = module.partition(".")[0]
        if root in sys.stdlib_module_names or module.startswith(_LANGUAGE):
            return False
        file = getattr(sys.modules.get(module), "__file__", None) or ""
        return root == self._home or not any(each in file for each in _PACKAGES_OF_OTHERS)


def _function_of(member: object) -> types.FunctionType | None:
    """The function behind a method, property or decorator; none of an activity."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    elif isinstance(member, property):
        member = member.fget
    elif isinstance(member, types.MethodType):
        member = member.__func__
    if getattr(getattr(member, MARK, None), "role", "") == "activity":
        return None
    found = inspect.unwrap(member) if callable(member) else member
    return found if isinstance(found, types.FunctionType) else None


def _named(code: types.CodeType, names: dict[str, Any], attributes: set[str]) -> Iterator[object]:
    """Everything that the code reaches by names and by attributes of modules and classes."""
    reached: Any = None
    module: Any = None
    imported: dict[str, Any] = {}
    for step in dis.get_instructions(code):
        name = step.argval
        match step.opname:
            case "LOAD_GLOBAL" | "LOAD_NAME":
                yield reached
                reached = names.get(name, getattr(builtins, name, None))
            case "LOAD_FAST" | "LOAD_FAST_CHECK" | "LOAD_DEREF":
                yield reached
                reached = imported.get(name)
            case "IMPORT_NAME":
                yield reached
                reached = module = sys.modules.get(name)
            case "IMPORT_FROM":
                reached = getattr(module, name, None)
            case "STORE_FAST" | "STORE_DEREF":
                imported[name] = reached
                yield reached
                reached = None
            case "LOAD_ATTR" | "LOAD_METHOD":
                attributes.add(name)
                if isinstance(reached, types.ModuleType | type):
                    reached = getattr(reached, name, None)
                else:
                    yield reached
                    reached = None
            case _:
                yield reached
                reached = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _named(constant, names, attributes)
