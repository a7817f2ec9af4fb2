"""The determinism guard with whole apps: in one file, and with helper modules."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from tests.workflows.interpreter.script import Script
from workflows.api.definitions import Registry
from workflows.model.errors import ForbiddenCallError
from workflows.testing import WorkflowEnvironment

_numbers = itertools.count()
MakeModule = Callable[[str, str], ModuleType]

ONE_FILE = """
    import os
    import random
    import time
    from datetime import datetime
    from workflows.api import activity, workflow

    OPTIONS = workflow.ActivityOptions(start_to_close_s=10)

    @activity.defn()
    def stamp() -> str:
        return f"{datetime.now():%Y} {time.time() > 0} {random.random() < 1} {_home()}"

    def _home() -> bool:
        return "PATH" in os.environ

    @workflow.defn()
    class App:
        @workflow.run
        async def run(self) -> str:
            return await workflow.execute_activity(stamp, options=OPTIONS)
"""

WORKFLOW = """
    from workflows.api import workflow
    import {helper} as helper
    from {helper} import now, Helper

    @workflow.defn()
    class App:
        def __init__(self) -> None:
            self.helper = Helper()

        @workflow.run
        async def run(self) -> str:
            return str({call})
"""

HELPER = """
    import os
    from datetime import datetime
    from random import random
    from time import time
    import datetime as dt

    def now(): return datetime.now()
    def today(): return dt.date.today()
    def clock(): return time()
    def dice(): return random()
    def environment(): return os.environ["PATH"]
    def inside():
        from datetime import datetime as moment
        return moment.now()
    def hidden(name): return globals()[name]()

    class Helper:
        def moment(self): return datetime.now()
        def clock(self): return time()
        def unused(self): return datetime.now()
        def harmless(self): return len("x")
"""


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeModule]:
    """A function that imports a text as a module; the modules are removed at the end."""
    monkeypatch.syspath_prepend(str(tmp_path))
    created: list[str] = []

    def module(prefix: str, text: str) -> ModuleType:
        name = f"{prefix}_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(dedent(text), encoding="utf-8")
        created.append(name)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield module
    for name in created:
        del sys.modules[name]


async def test_the_guard_covers_modules_imported_after_its_installation(
    make_module: MakeModule,
) -> None:
    Script(make_module("app", ONE_FILE).App).task()  # installs the guard
    names = {"helper": make_module("helper", HELPER).__name__}
    hidden = make_module("app", WORKFLOW.format(**names, call="helper.hidden('time')")).App
    plain = make_module("app", WORKFLOW.format(**names, call="helper.clock()")).App

    with pytest.raises(ForbiddenCallError, match=r"time\.time"):
        Registry([plain])
    with pytest.raises(ForbiddenCallError, match=r"may not call time\.time"):
        Script(hidden).task()
    await asyncio.sleep(0)  # removes the guard; the next task installs it again
    with pytest.raises(ForbiddenCallError, match=r"may not call time\.time"):
        Script(hidden).task()


async def test_an_activity_in_the_file_of_a_workflow_may_use_the_clock(
    make_module: MakeModule,
) -> None:
    app = make_module("app", ONE_FILE)

    async with WorkflowEnvironment(Registry([app.App], [app.stamp])) as env:
        result = await env.execute(app.App)

    assert result.endswith("True True True")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("now()", r"datetime\.now"),
        ("helper.today()", r"date\.today"),
        ("helper.inside()", r"datetime\.now"),
        ("helper.clock()", r"time\.time"),
        ("helper.dice()", r"Random\.random|random\.random"),
        ("helper.environment()", r"os\.environ"),
        ("self.helper.moment()", r"datetime\.now"),
        ("Helper().clock()", r"time\.time"),
    ],
)
def test_registration_finds_a_forbidden_call_in_a_helper_module(
    make_module: MakeModule, call: str, reason: str
) -> None:
    helper = make_module("helper", HELPER)
    app = make_module("app", WORKFLOW.format(helper=helper.__name__, call=call))

    with pytest.raises(ForbiddenCallError, match=reason):
        Registry([app.App])


@pytest.mark.parametrize("name", ["clock", "dice", "environment"])
def test_a_forbidden_call_that_the_search_misses_is_rejected_at_run_time(
    make_module: MakeModule, name: str
) -> None:
    helper = make_module("helper", HELPER)
    app = make_module(
        "app", WORKFLOW.format(helper=helper.__name__, call=f"helper.hidden('{name}')")
    )

    with pytest.raises(ForbiddenCallError, match="workflow code may not call"):
        Script(app.App).task()
    assert helper.hidden(name), "outside a workflow the call is allowed"


def test_registration_does_not_search_unused_methods(make_module: MakeModule) -> None:
    helper = make_module("helper", HELPER)
    app = make_module("app", WORKFLOW.format(helper=helper.__name__, call="self.helper.harmless()"))

    assert Registry([app.App]).workflows
