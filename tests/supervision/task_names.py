"""The supervised tasks that tests crash, and the supervised tasks in the source code.

In the source code, the name of a task is a literal, a constant of the module, or a string of the
enclosing ``for`` loop.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ops.kubernetes.translated_kinds import TranslatedKind

PROJECT_ROOT: Final = Path(__file__).resolve().parents[2]
PRODUCT_PACKAGES: Final = ("core", "nodeagent", "ops", "workflows")

TASK_FUNCTIONS: Final = ("TaskSpec", "reflector_task", "_leader_task")
"""Functions that get the name of a task as first argument."""

AGENT_TASKS: Final = (
    *("watch-pods", "watch-coordinator", "watch-services", "watch-networks", "watch-rdma-pods"),
    *("watch-sriov", "sriov", "roce-qos"),
    *("cluster-ips", "device-plugin", "cni-request-timeouts", "configuration-view"),
    "refusal-recorder",
)
REPLICA_TASKS: Final = (
    *("configuration-view", "projector", "observer", "election", "workflow-worker"),
    *("webhooks", "cluster-watch"),
)
LEADER_TASKS: Final = (
    *("publisher", "execution-starter", "pod-listener", "pool-dispatcher", "binding-dispatcher"),
    *("translator", "application-watch", "scale-recorder", "forecaster"),
)
KUBERNETES_TASKS: Final = (
    *(f"watch-{kind.value}" for kind in TranslatedKind),
    *("status-reporter", "claim-reporter", "networks", "coordinators", "coordinator-records"),
    "lease-report",
)
CONSOLE_TASKS: Final = ("console",)
"""The readiness of a replica does not depend on this task."""

WEBHOOK_TASKS: Final = ("pending-admissions", "webhook-certificate", "injected-networks")

CRASHED_TASKS: Final = frozenset(
    (*AGENT_TASKS, *REPLICA_TASKS, *LEADER_TASKS, *KUBERNETES_TASKS, *WEBHOOK_TASKS, *CONSOLE_TASKS)
)


def task_names_in(source: str) -> Iterator[str]:
    """Yield a pattern for each task name in a module; f-string expressions become ``.+``.

    Raises ValueError for a name that cannot be resolved.
    """
    if not any(function in source for function in TASK_FUNCTIONS):
        return  # parsing every module would slow down each collection of the suite
    tree = ast.parse(source)
    constants = {
        target.id: node.value
        for node in tree.body
        for target in _targets(node)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
    }
    for call, loops in _calls(tree, ()):
        yield from _resolved(call.args[0], constants, loops)


def _targets(node: ast.stmt) -> Iterator[ast.Name]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target
    if isinstance(node, ast.Assign):
        yield from (target for target in node.targets if isinstance(target, ast.Name))


def _calls(
    node: ast.AST, loops: tuple[ast.For, ...]
) -> Iterator[tuple[ast.Call, tuple[ast.For, ...]]]:
    """Calls of ``TASK_FUNCTIONS``, except in their own definitions, with their enclosing loops."""
    if isinstance(node, ast.FunctionDef) and node.name in TASK_FUNCTIONS:
        return
    if isinstance(node, ast.Call) and _function_name(node.func) in TASK_FUNCTIONS:
        yield node, loops
    inner_loops = (*loops, node) if isinstance(node, ast.For) else loops
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, inner_loops)


def _function_name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)


def _resolved(
    name: ast.expr, constants: dict[str, ast.expr], loops: tuple[ast.For, ...]
) -> Iterator[str]:
    if isinstance(name, ast.Constant):
        yield re.escape(str(name.value))
    elif isinstance(name, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else None for part in name.values)
        yield "".join(".+" if part is None else re.escape(str(part)) for part in parts)
    elif isinstance(name, ast.Name) and name.id in constants:
        yield from _resolved(constants[name.id], {}, ())
    else:
        name_loops = [loop for loop in loops if ast.unparse(name) in ast.unparse(loop.target)]
        if not name_loops:
            raise ValueError(f"line {name.lineno}: cannot resolve the name {ast.unparse(name)}")
        for node in ast.walk(name_loops[-1].iter):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.escape(node.value)
