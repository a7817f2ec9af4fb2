"""Workflow and activity types as data, and the registry of a worker.

Decorators make the definitions once, because reading annotations is slow. The registry searches the
code of workflows for forbidden calls. The search follows the functions, modules and helper classes
that the code names, but skips activities, the standard library, third-party packages and this
engine.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import itertools
import sys
import types
import typing
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from workflows.api.forbidden_calls import reason_against
from workflows.api.interceptors import Interceptor
from workflows.model.errors import ForbiddenCallError, PayloadError
from workflows.model.limits import ID_BYTES_MAX
from workflows.model.payloads import Payload, from_payload

DEFINITION_ATTRIBUTE = "__orbweaver_definition__"


class Handler(NamedTuple):
    """A function with the types of its arguments (without ``self``) and of its result.

    ``required``: the number of arguments without a default.
    """

    name: str
    function: Callable[..., Any]
    argument_types: tuple[Any, ...]
    required: int
    result_type: Any
    variadic: bool = False

    def arguments(self, payloads: Sequence[Payload]) -> list[Any]:
        """The payloads as typed arguments. Raises PayloadError if they do not fit."""
        count, most = len(payloads), len(self.argument_types)
        if count < self.required or (count > most and not self.variadic):
            raise PayloadError(f"{self.name} takes {self._argument_count()}, not {count}")
        kinds = [*self.argument_types, *(Any for _ in range(count - most))]
        what = f"an argument of {self.name}"
        return [from_payload(p, kind, what=what) for p, kind in zip(payloads, kinds, strict=False)]

    def _argument_count(self) -> str:
        most = len(self.argument_types)
        if self.variadic:
            return f"{self.required} or more arguments"
        if self.required == most:
            return f"{most} {'argument' if most == 1 else 'arguments'}"
        return f"{self.required} to {most} arguments"


class HandlerRole(NamedTuple):
    """The role of a decorated function, such as "signal" or "activity", and the handler's name."""

    role: str
    name: str


class WorkflowDefinition(NamedTuple):
    """A workflow type. The mappings' keys are names of signals, queries or updates."""

    name: str
    cls: type[Any]
    run: Handler
    signals: Mapping[str, Handler]
    queries: Mapping[str, Handler]
    updates: Mapping[str, Handler]
    validators: Mapping[str, Handler]


class ActivityDefinition(NamedTuple):
    """An activity type. ``is_plain``: the function is not async, and runs in a thread."""

    name: str
    handler: Handler
    is_plain: bool


def define_activity(name: str, handler: Handler) -> ActivityDefinition:
    """The definition of an activity function."""
    function = inspect.unwrap(handler.function)
    return ActivityDefinition(name, handler, not inspect.iscoroutinefunction(function))


class Registry:
    """The types that a worker can run, and its interceptors. Replay needs both.

    Raises ValueError for two types with one name, ForbiddenCallError for a forbidden call.
    """

    def __init__(
        self,
        workflows: Iterable[type[Any]] = (),
        activities: Iterable[Callable[..., Any]] = (),
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self.interceptors = tuple(interceptors)
        self.workflows: dict[str, WorkflowDefinition] = {}
        self.activities: dict[str, ActivityDefinition] = {}
        for cls in workflows:
            inspect_code(cls)
            self._add(self.workflows, workflow_definition(cls))
        for interceptor in interceptors:
            if interceptor.workflow_inbound is not None:
                inspect_code(interceptor.workflow_inbound)
        for function in activities:
            self._add(self.activities, activity_definition(function))

    def include(self, workflow: type[Any]) -> None:
        """Add a workflow type, unless its name is registered."""
        if workflow_definition(workflow).name not in self.workflows:
            inspect_code(workflow)
            self._add(self.workflows, workflow_definition(workflow))

    @staticmethod
    def _add(types: dict[str, Any], definition: WorkflowDefinition | ActivityDefinition) -> None:
        if definition.name in types:
            raise ValueError(f"two registered types have the name {definition.name}: rename one")
        types[definition.name] = definition


def handler_of(function: Callable[..., Any], name: str, *, method: bool) -> Handler:
    """The handler of a function. Values without an annotation have the type Any."""
    check_name(name)
    hints = typing.get_type_hints(function)
    parameters = list(inspect.signature(function).parameters.values())[1 if method else 0 :]
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    return Handler(
        name,
        function,
        tuple(hints.get(p.name, Any) for p in positional),
        sum(p.default is p.empty for p in positional),
        hints.get("return", Any),
        any(p.kind is p.VAR_POSITIONAL for p in parameters),
    )


class HandlerReference(NamedTuple):
    """The name of a handler, and its result type: Any if unknown."""

    name: str
    result_type: Any = Any


def reference_to(handler: str | Callable[..., Any], role: str) -> HandlerReference:
    """The reference to a handler, which is given as a name or as a decorated method.

    Raises TypeError if the method has another role.
    """
    if isinstance(handler, str):
        return HandlerReference(handler)
    mark = getattr(handler, ROLE_ATTRIBUTE, None)
    if not isinstance(mark, HandlerRole) or mark.role != role:
        raise TypeError(f"{handler!r} is not decorated with @workflow.{role}")
    return HandlerReference(mark.name, handler_of(handler, mark.name, method=True).result_type)


def define_workflow(cls: type[Any], name: str) -> WorkflowDefinition:
    """The definition of a class with decorated methods. Raises ValueError."""
    check_name(name)
    handlers: dict[str, dict[str, Handler]] = {
        role: {} for role in ("run", "signal", "query", "update", "validator")
    }
    for attribute in dir(cls):
        method = inspect.getattr_static(cls, attribute)
        role = getattr(method, ROLE_ATTRIBUTE, None)
        if isinstance(role, HandlerRole):
            handlers[role.role][role.name] = handler_of(method, role.name, method=True)
    if len(handlers["run"]) != 1:
        raise ValueError(f"workflow {name} needs exactly one method with @workflow.run")
    unknown = set(handlers["validator"]) - set(handlers["update"])
    if unknown:
        raise ValueError(f"workflow {name} has validators of unknown updates: {sorted(unknown)}")
    run = next(iter(handlers["run"].values()))
    return WorkflowDefinition(
        name,
        cls,
        run,
        handlers["signal"],
        handlers["query"],
        handlers["update"],
        handlers["validator"],
    )


def workflow_definition(cls: type[Any]) -> WorkflowDefinition:
    """The definition of a decorated class. Raises TypeError."""
    definition = cls.__dict__.get(DEFINITION_ATTRIBUTE)
    if not isinstance(definition, WorkflowDefinition):
        raise TypeError(f"{cls.__name__} is not decorated with @workflow.defn")
    return definition


def activity_definition(function: Callable[..., Any]) -> ActivityDefinition:
    """The definition of a decorated function. Raises TypeError.

    The definition of a bound method calls the method on its object.
    """
    role = getattr(function, ROLE_ATTRIBUTE, None)
    if not isinstance(role, HandlerRole) or role.role != "activity":
        raise TypeError(f"{function!r} is not decorated with @activity.defn")
    definition = getattr(function, DEFINITION_ATTRIBUTE, None)
    if isinstance(definition, ActivityDefinition) and not inspect.ismethod(function):
        return definition
    unbound = inspect.unwrap(getattr(function, "__func__", function))
    handler = handler_of(unbound, role.name, method=inspect.ismethod(function))
    return define_activity(role.name, handler._replace(function=function))


def check_name(name: str) -> None:
    """Raise ValueError unless a name has 1 to ``ID_BYTES_MAX`` bytes."""
    if not 0 < len(name.encode()) <= ID_BYTES_MAX:
        raise ValueError(
            f"the name {name[:64]!r} of a workflow type, activity type or handler has"
            f" {len(name.encode())} bytes: use 1 to {ID_BYTES_MAX}"
        )


ID_RULE = f"1 to {ID_BYTES_MAX} bytes of printable text (ID_BYTES_MAX)"


def is_id(text: str) -> bool:
    """Whether the text can be the id of an execution."""
    return 0 < len(text.encode(errors="replace")) <= ID_BYTES_MAX and text.isprintable()


ROLE_ATTRIBUTE = "__orbweaver_role__"

_ENGINE_PACKAGES = ("workflows.api", "workflows.model", "workflows.interpreter", "workflows.engine")
_THIRD_PARTY_FOLDERS = ("site-packages", "dist-packages")
_CONSTRUCTORS = ("__new__", "__init__", "__post_init__", "__call__")

_searched_globals: dict[int, dict[str, Any]] = {}
"""``id()`` of a module's globals -> the globals."""

_permitted_classes: weakref.WeakSet[type[Any]] = weakref.WeakSet()


def reached_modules() -> Collection[dict[str, Any]]:
    """The globals of every searched module, in which the guard replaces forbidden functions."""
    return _searched_globals.values()


def inspect_code(cls: type[Any]) -> None:
    """Raise ForbiddenCallError if a class or its helpers make a forbidden call."""
    if cls in _permitted_classes:
        return
    search = _CodeSearch(cls)
    search.run()
    _permitted_classes.add(cls)
    _searched_globals.update({id(names): names for names in search.modules.values()})


class _CodeSearch:
    def __init__(self, cls: type[Any]) -> None:
        self._package = cls.__module__.partition(".")[0]
        self._searched_code: set[types.CodeType] = set()
        self._helper_classes: dict[type[Any], None] = {}
        self._attributes: set[str] = set()
        self._functions_to_search: list[types.FunctionType] = []
        self.modules: dict[str, dict[str, Any]] = {}
        for base in cls.__mro__:
            if self._is_followed(base.__module__):
                self._functions_to_search += filter(None, map(_function_of, vars(base).values()))

    def run(self) -> None:
        while self._functions_to_search:
            while self._functions_to_search:
                self._search(self._functions_to_search.pop())
            for cls in self._helper_classes:
                self._functions_to_search += self._used_methods(cls)

    def _search(self, function: types.FunctionType) -> None:
        if function.__code__ in self._searched_code:
            return
        self._searched_code.add(function.__code__)
        self.modules[function.__module__ or ""] = function.__globals__
        for named in _named_objects(function.__code__, function.__globals__, self._attributes):
            reason = reason_against(named)
            if reason:
                raise ForbiddenCallError(f"{function.__qualname__} calls {reason}")
            self._follow(named)

    def _follow(self, named: object) -> None:
        if not self._is_followed(getattr(named, "__module__", None) or type(named).__module__):
            return
        function = _function_of(named)
        if function is not None:
            self._functions_to_search.append(function)
        elif isinstance(named, type):
            self._helper_classes[named] = None
        elif not callable(named) or not hasattr(named, ROLE_ATTRIBUTE):
            self._helper_classes[type(named)] = None

    def _used_methods(self, cls: type[Any]) -> Iterator[types.FunctionType]:
        """Constructors, and methods whose names the code contains. Adds modules to ``modules``."""
        module = sys.modules.get(cls.__module__)
        if module is not None:
            self.modules[cls.__module__] = vars(module)
        for base in cls.__mro__:
            if self._is_followed(base.__module__):
                for name, member in vars(base).items():
                    function = _function_of(member)
                    is_used = name in self._attributes or name in _CONSTRUCTORS
                    if (
                        function is not None
                        and is_used
                        and function.__code__ not in self._searched_code
                    ):
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
    if getattr(getattr(member, ROLE_ATTRIBUTE, None), "role", "") == "activity":
        return None
    function = inspect.unwrap(member) if callable(member) else member
    return function if isinstance(function, types.FunctionType) else None


_MERGED_STEPS = {
    "LOAD_FAST_LOAD_FAST": ("LOAD_FAST", "LOAD_FAST"),
    "STORE_FAST_LOAD_FAST": ("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": ("STORE_FAST", "STORE_FAST"),
}
"""Instruction of Python 3.13 -> the two instructions of earlier versions that it replaces."""


def _steps(code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """Yield (name, argument) of the code's instructions, as Python 3.12 names them."""
    for step in dis.get_instructions(code):
        # LOAD_FAST_BORROW of Python 3.14 loads a variable too.
        opname = step.opname.replace("LOAD_FAST_BORROW", "LOAD_FAST")
        if opname in _MERGED_STEPS:
            yield from zip(_MERGED_STEPS[opname], step.argval, strict=True)
        else:
            yield opname, step.argval


def _named_objects(
    code: types.CodeType, names: dict[str, Any], attributes: set[str]
) -> Iterator[object]:
    """Yield the objects that the code names, directly or as attributes of modules and classes.

    Adds every attribute's name to ``attributes``, because the attribute's object is often unknown.
    """
    loaded: Any = None
    module: Any = None
    imported: dict[str, Any] = {}
    is_from = False
    for (_, before), (opname, name) in itertools.pairwise(_steps(code)):
        match opname:
            case "LOAD_GLOBAL" | "LOAD_NAME":
                yield loaded
                loaded = names.get(name, getattr(builtins, name, None))
            case "LOAD_FAST" | "LOAD_FAST_CHECK" | "LOAD_DEREF":
                yield loaded
                loaded = imported.get(name)
            case "IMPORT_NAME":
                yield loaded
                # The argument before it is None, unless this is ``from a.b import c``.
                is_from = before is not None
                loaded = module = sys.modules.get(name if is_from else name.partition(".")[0])
            case "IMPORT_FROM":
                loaded = getattr(module, name, None)
                # ``import a.b.c as d`` goes from each package to the next.
                module = module if is_from else loaded
            case "STORE_FAST" | "STORE_DEREF":
                imported[name] = loaded
                yield loaded
                loaded = None
            case "LOAD_ATTR" | "LOAD_METHOD":
                attributes.add(name)
                if isinstance(loaded, types.ModuleType | type):
                    loaded = getattr(loaded, name, None)
                else:
                    yield loaded
                    loaded = None
            case _:
                yield loaded
                loaded = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _named_objects(constant, names, attributes)
