"""Workflow and activity types as data, and the registry in which a worker looks them up.

The decorators of ``workflows.api.workflow`` and ``.activity`` make a definition once. It has the
annotations by which payloads become typed values, because reading them is slow.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from workflows.api.inspection import MARK, inspect_code
from workflows.api.interceptors import Interceptor
from workflows.model.errors import PayloadError
from workflows.model.limits import ID_BYTES_MAX
from workflows.model.payloads import Payload, from_payload

DEFINITION = "__orbweaver_definition__"


class Handler(NamedTuple):
    """A function with the types of its arguments (without ``self``) and of its result."""

    name: str
    function: Callable[..., Any]
    argument_types: tuple[Any, ...]
    required: int
    result_type: Any
    variadic: bool = False

    def arguments(self, payloads: Sequence[Payload]) -> list[Any]:
        """Typed arguments. Raises PayloadError if their number or types do not fit."""
        count, most = len(payloads), len(self.argument_types)
        if count < self.required or (count > most and not self.variadic):
            raise PayloadError(
                f"{self.name} takes {self.required} to {most} arguments, not {count}"
            )
        kinds = [*self.argument_types, *(Any for _ in range(count - most))]
        what = f"an argument of {self.name}"
        return [from_payload(p, kind, what=what) for p, kind in zip(payloads, kinds, strict=False)]


class HandlerRole(NamedTuple):
    """The role of a decorated method (run, signal, query, update, validator) and its name."""

    role: str
    name: str


class WorkflowDefinition(NamedTuple):
    """A workflow type. The mappings are by name of signal, query or update."""

    name: str
    cls: type[Any]
    run: Handler
    signals: Mapping[str, Handler]
    queries: Mapping[str, Handler]
    updates: Mapping[str, Handler]
    validators: Mapping[str, Handler]


class ActivityDefinition(NamedTuple):
    """An activity type. ``is_plain``: a function that is not async, which runs in a thread."""

    name: str
    handler: Handler
    is_plain: bool


def define_activity(name: str, handler: Handler) -> ActivityDefinition:
    """The definition of a function."""
    function = inspect.unwrap(handler.function)
    return ActivityDefinition(name, handler, not inspect.iscoroutinefunction(function))


class Registry:
    """The types that a worker can run, and the interceptors around them.

    Raises ValueError for two types of one name, ForbiddenCallError for code that cannot be
    replayed.
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
        """Add a workflow type, unless there is one of this name."""
        if workflow_definition(workflow).name not in self.workflows:
            inspect_code(workflow)
            self._add(self.workflows, workflow_definition(workflow))

    @staticmethod
    def _add(types: dict[str, Any], definition: WorkflowDefinition | ActivityDefinition) -> None:
        if definition.name in types:
            raise ValueError(f"{definition.name} is registered twice")
        types[definition.name] = definition


def handler_of(function: Callable[..., Any], name: str, *, method: bool) -> Handler:
    """The handler of a function. Without annotations its arguments and result are plain data."""
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
    """The name of a handler, and its result type: Any if only the name is known."""

    name: str
    result_type: Any = Any


def reference_to(handler: str | Callable[..., Any], role: str) -> HandlerReference:
    """A handler by its name, or by its method such as ``Order.approve``.

    Raises TypeError for a method that is not decorated as a handler of this role.
    """
    if isinstance(handler, str):
        return HandlerReference(handler)
    mark = getattr(handler, MARK, None)
    if not isinstance(mark, HandlerRole) or mark.role != role:
        raise TypeError(f"{handler!r} is not decorated with @workflow.{role}")
    return HandlerReference(mark.name, handler_of(handler, mark.name, method=True).result_type)


def define_workflow(cls: type[Any], name: str) -> WorkflowDefinition:
    """The definition of a class from its decorated methods and those of its bases."""
    check_name(name)
    handlers: dict[str, dict[str, Handler]] = {
        role: {} for role in ("run", "signal", "query", "update", "validator")
    }
    for attribute in dir(cls):
        method = inspect.getattr_static(cls, attribute)
        role = getattr(method, MARK, None)
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
    """The definition of a decorated class. Raises TypeError for any other class."""
    definition = cls.__dict__.get(DEFINITION)
    if not isinstance(definition, WorkflowDefinition):
        raise TypeError(f"{cls.__name__} is not decorated with @workflow.defn")
    return definition


def activity_definition(function: Callable[..., Any]) -> ActivityDefinition:
    """The definition of a decorated function. Raises TypeError for any other function.

    The definition of a bound method has its object.
    """
    role = getattr(function, MARK, None)
    if not isinstance(role, HandlerRole) or role.role != "activity":
        raise TypeError(f"{function!r} is not decorated with @activity.defn")
    definition = getattr(function, DEFINITION, None)
    if isinstance(definition, ActivityDefinition) and not inspect.ismethod(function):
        return definition
    unbound = inspect.unwrap(getattr(function, "__func__", function))
    handler = handler_of(unbound, role.name, method=inspect.ismethod(function))
    return define_activity(role.name, handler._replace(function=function))


def check_name(name: str) -> None:
    """Raise ValueError for an empty name, or one of more than ``ID_BYTES_MAX`` bytes."""
    if not 0 < len(name.encode()) <= ID_BYTES_MAX:
        raise ValueError(f"a name has 1 to {ID_BYTES_MAX} bytes, not {len(name.encode())}")
