"""Search the code of a workflow type, and all code that it names, for forbidden calls.

The search starts with the methods of the class. It follows global names, imports, helper functions
and modules, and methods of helper classes that the code names. It does not enter activities, the
standard library, third-party packages, or this engine. It keeps the modules that it has searched,
because ``workflows.interpreter.guard`` replaces forbidden functions there, too.
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

_ENGINE_PACKAGES = ("workflows.api", "workflows.model", "workflows.interpreter", "workflows.engine")
_THIRD_PARTY_FOLDERS = ("site-packages", "dist-packages")
_CONSTRUCTORS = ("__new__", "__init__", "__post_init__", "__call__")

_reached: dict[int, dict[str, Any]] = {}


def reached_modules() -> Collection[dict[str, Any]]:
    """The global names of every module that has code of a registered workflow."""
    return _reached.values()


def inspect_code(cls: type[Any]) -> None:
    """Raise ForbiddenCallError if a workflow, or a helper that it names, makes a forbidden call."""
    search = _CodeSearch(cls)
    search.run()
    _reached.update({id(names): names for names in search.modules.values()})


class _CodeSearch:
    """The search of one workflow type."""

    def __init__(self, cls: type[Any]) -> None:
        self._package = cls.__module__.partition(".")[0]
        self._seen: set[types.CodeType] = set()
        self._classes: dict[type[Any], None] = {}
        self._attributes: set[str] = set()
        self._waiting: list[types.FunctionType] = []
        self.modules: dict[str, dict[str, Any]] = {}
        for base in cls.__mro__:
            if self._is_followed(base.__module__):
                self._waiting += filter(None, map(_function_of, vars(base).values()))

    def run(self) -> None:
        """Search until no new code is found. Raises ForbiddenCallError."""
        while self._waiting:
            while self._waiting:
                self._search(self._waiting.pop())
            for cls in self._classes:
                self._waiting += self._used_methods(cls)

    def _search(self, function: types.FunctionType) -> None:
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
        """The methods of a helper class that the code may call: those whose names it contains."""
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
        if root in sys.stdlib_module_names or module.startswith(_ENGINE_PACKAGES):
            return False
        file = getattr(sys.modules.get(module), "__file__", None) or ""
        return root == self._package or not any(folder in file for folder in _THIRD_PARTY_FOLDERS)


def _function_of(member: object) -> types.FunctionType | None:
    """The function of a method, property or decorated function; None for an activity."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    elif isinstance(member, property):
        member = member.fget
    elif isinstance(member, types.MethodType):
        member = member.__func__
    if getattr(getattr(member, MARK, None), "role", "") == "activity":
        return None
    function = inspect.unwrap(member) if callable(member) else member
    return function if isinstance(function, types.FunctionType) else None


def _named(code: types.CodeType, names: dict[str, Any], attributes: set[str]) -> Iterator[object]:
    """All objects that the code names, directly or as attributes of modules and classes."""
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
