"""Signals and retries from the console must be enabled and require a right."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from core.errors import AccessDenied, BadInput
from core.eventstore.memory_store import MemoryStore
from core.process.environment import EnvironmentVariables
from ops.console.access import ConsoleAccess, SecretAccess
from ops.console.console_data import ConsoleSource
from ops.console.console_settings import ConsoleSettings, console_settings
from ops.console.refused_actions import (
    FIELD_CHARS_MAX,
    REFUSALS_LOGGED_MAX,
    WINDOW_S,
    RefusedActions,
)
from ops.console.workflow_actions import (
    BODY_BYTES_MAX,
    NESTING_MAX,
    TEXT_CHARS_MAX,
    WorkflowActions,
)
from ops.console.workflow_answers import matching_executions
from tests.support.console_harness import served_console
from tests.support.engine_harness import EngineHarness
from tests.support.engine_samples import Basket
from tests.tidy.sources import PROJECT_ROOT
from workflows.engine.store.records import RunHead
from workflows.jobs.reclaim.scan import SCAN_NOW, WORKFLOW_ID
from workflows.model.policies import ExecutionStatus

ID = "basket/of ann"
PATH = "api/v1/workflows/basket/of%20ann"
TOKEN = "a-token"
JSON = {"Content-Type": "application/json"}


class NoRights:
    async def check(self, headers: Mapping[str, str]) -> str:
        raise AccessDenied("the user may not post", subject="Authorization")


class Reply(NamedTuple):
    """A response; ``code`` is "" if the response has no error."""

    status: int
    code: str


@pytest.fixture
async def engine() -> AsyncIterator[EngineHarness]:
    engine = EngineHarness(MemoryStore())
    yield engine
    await engine.close()


class WorkflowConsole:
    """The HTTP API of a console with workflows, called with the token."""

    def __init__(self, engine: EngineHarness, client: aiohttp.ClientSession, url: str) -> None:
        self.engine = engine
        self._client = client
        self._url = url

    async def post(self, verb: str, body: object, **headers: str) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = {"Authorization": f"Bearer {TOKEN}", **JSON, **headers}
        url = f"{self._url}{PATH}/{verb}"
        async with self._client.post(url, data=content, headers=all_headers) as response:
            text = await response.text()
            return Reply(response.status, json.loads(text)["error"]["code"] if text else "")

    async def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self._client.get(f"{self._url}api/v1/{path}", headers=headers) as response:
            return await response.json()


@asynccontextmanager
async def workflow_console(
    engine: EngineHarness, directory: Path, rights: ConsoleAccess | None
) -> AsyncIterator[WorkflowConsole]:
    """``rights``: who may act; None disables the actions."""
    source = ConsoleSource(engine.store, engine.keys, directory, cluster="test")
    actions = WorkflowActions(engine.store, engine.keys, rights) if rights else None
    access = SecretAccess(TOKEN, "ann")
    async with (
        served_console(source, access, actions) as url,
        aiohttp.ClientSession() as client,
    ):
        yield WorkflowConsole(engine, client, url)


@pytest.fixture
async def console(engine: EngineHarness, tmp_path: Path) -> AsyncIterator[WorkflowConsole]:
    await engine.client.start(Basket, id=ID)
    async with workflow_console(engine, tmp_path, SecretAccess(TOKEN, "ann")) as console:
        yield console


async def test_a_signal_has_the_name_of_its_sender(console: WorkflowConsole) -> None:
    assert await console.post("signal", {"name": "put", "arguments": ["bread"]}) == (204, "")
    assert await console.post("signal", {"name": "close"}) == (204, "")
    await console.engine.start_worker()
    assert await console.engine.client.result(ID) == ["bread"]
    history = (await console.get("workflows/basket/of%20ann"))["history"]
    senders = {
        event["attributes"].get("identity")
        for event in history
        if event["type"] == "WorkflowExecutionSignaled"
    }
    assert senders == {"console/ann"}


async def test_a_retry_continues_only_a_paused_execution(
    console: WorkflowConsole,
) -> None:
    await console.engine.start_worker()
    assert await console.post("retry", {}) == (409, "CallRejected")
    await console.engine.client.pause(ID, "the disk is full")
    await console.engine.until_status(ID, ExecutionStatus.PAUSED)
    assert await console.post("retry", {"reason": "the disk is new"}) == (204, "")
    await console.engine.until_status(ID, ExecutionStatus.RUNNING)


async def test_invalid_requests_and_requests_from_other_sites_are_refused(
    console: WorkflowConsole,
) -> None:
    signal = {"name": "close"}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert await console.post("signal", signal, **form) == (400, "BadInput")
    assert await console.post("signal", signal, Authorization="") == (401, "Unauthenticated")
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert await console.post("signal", signal, **foreign) == (403, "AccessDenied")
    assert await console.post("signal", {"name": ""}) == (400, "BadInput")
    assert await console.post("signal", {"name": "x" * (TEXT_CHARS_MAX + 1)}) == (400, "BadInput")
    assert await console.post("signal", {**signal, "color": "red"}) == (400, "BadInput")
    assert await console.post("signal", b"close") == (400, "BadInput")
    assert await console.post("signal", b" " * (BODY_BYTES_MAX + 1)) == (
        413,
        "RequestEntityTooLarge",
    )
    # The only message is the start of the execution.
    assert (await console.engine.visibility.describe(ID)).inbox_messages == 1


@pytest.mark.parametrize("levels", [NESTING_MAX, 800, 30_000])
async def test_arguments_that_are_nested_too_deeply_are_refused(
    console: WorkflowConsole, levels: int
) -> None:
    arguments = b"[" * (levels + 1) + b"]" * (levels + 1)
    body = b'{"name": "put", "arguments": %s}' % arguments
    assert await console.post("signal", body) == (400, "BadInput")


async def test_a_body_that_is_not_utf_8_is_refused(console: WorkflowConsole) -> None:
    assert await console.post("signal", b'{"name": "\xff"}') == (400, "BadInput")


async def test_a_token_that_is_not_ascii_is_rejected(console: WorkflowConsole) -> None:
    signal = {"name": "close"}
    reply = await console.post("signal", signal, Authorization="Bearer caf\u00e9")
    assert reply == (401, "Unauthenticated")


async def test_actions_require_a_right_and_must_be_enabled(
    engine: EngineHarness, tmp_path: Path
) -> None:
    await engine.client.start(Basket, id=ID)
    async with workflow_console(engine, tmp_path, NoRights()) as console:
        assert await console.get("access") == {"user": "ann", "workflowActions": False}
        assert await console.post("signal", {"name": "close"}) == (403, "AccessDenied")
    async with workflow_console(engine, tmp_path, None) as console:
        assert await console.get("access") == {"user": "ann", "workflowActions": False}
        assert (await console.post("signal", {"name": "close"})).status == 405
    async with workflow_console(engine, tmp_path, SecretAccess(TOKEN, "ann")) as console:
        assert await console.get("access") == {"user": "ann", "workflowActions": True}
    assert (await engine.visibility.describe(ID)).inbox_messages == 1


async def test_the_log_of_a_refused_action_has_user_and_reason(
    engine: EngineHarness, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await engine.client.start(Basket, id=ID)
    async with workflow_console(engine, tmp_path, NoRights()) as console:
        await console.post("signal", {"name": "close", "arguments": ["a-secret"]})
        await console.post("retry", {}, Authorization="Bearer wrong-token")
    denied, unauthenticated = (record.__dict__["fields"] for record in _refusals(caplog))
    expected = {"user": "ann", "action": "signal", "workflow": ID, "error": "AccessDenied"}
    assert denied == expected | {
        "peer": denied["peer"],
        "why": "the user may not post",
        "left_out": 0,
    }
    assert (unauthenticated["user"], unauthenticated["error"]) == ("", "Unauthenticated")
    assert (unauthenticated["action"], unauthenticated["workflow"]) == ("retry", ID)
    lines = [f"{record.getMessage()} {record.__dict__['fields']}" for record in _refusals(caplog)]
    assert not any(word in line for line in lines for word in ("a-secret", "wrong-token", TOKEN))


def test_refused_actions_beyond_the_limit_are_counted_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = 0.0
    refused = RefusedActions(lambda: now_s)
    request, error = make_mocked_request("POST", f"/{PATH}/retry"), AccessDenied("x" * 1_000)
    for _ in range(REFUSALS_LOGGED_MAX + 7):
        refused.note(request, "ann", error)
    assert len(_refusals(caplog)) == REFUSALS_LOGGED_MAX
    now_s = WINDOW_S
    refused.note(request, "ann", error)
    fields = _refusals(caplog)[-1].__dict__["fields"]
    assert (fields["left_out"], len(fields["why"])) == (7, FIELD_CHARS_MAX)


def _refusals(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "ops.console.refused_actions"]


def test_the_docs_name_the_id_and_signal_of_the_reclaim_scan() -> None:
    page = (PROJECT_ROOT / "docs/reference/console-api.md").read_text("utf-8")
    assert set(re.findall(r"api/v1/workflows/(\S+)/(?:retry|signal)", page)) == {WORKFLOW_ID}
    assert f'{{"name": "{SCAN_NOW}"}}' in page


def test_settings_that_let_every_client_act_on_workflows_are_refused() -> None:
    variables = {"ORBWEAVER_CONSOLE_ENABLED": "true", "ORBWEAVER_CONSOLE_WORKFLOW_ACTIONS": "true"}
    settings = console_settings(EnvironmentVariables(variables), None, "127.0.0.1")
    assert settings == ConsoleSettings(workflow_actions=True)
    open_to_all = EnvironmentVariables({**variables, "ORBWEAVER_CONSOLE_AUTH": "none"})
    with pytest.raises(BadInput, match="every client"):
        console_settings(open_to_all, None, "127.0.0.1")


async def test_a_search_by_application_finds_its_automatic_pools_workflow(
    engine: EngineHarness, tmp_path: Path
) -> None:
    workflow = "auto-pools/apps_v1_Deployment_shop_cart"
    await engine.client.start(Basket, id=workflow)
    async with workflow_console(engine, tmp_path, None) as console:
        (hit,) = (await console.get("search?q=shop/cart"))["hits"]
        assert (hit["kind"], hit["name"]) == ("workflow", workflow)


async def test_a_search_finds_executions_by_run_id_or_part_of_the_id(
    engine: EngineHarness, tmp_path: Path
) -> None:
    handle = await engine.client.start(Basket, id=ID)
    async with workflow_console(engine, tmp_path, None) as console:
        for query in ("of ann", "OF ANN", handle.run_id):
            (hit,) = (await console.get(f"search?q={query}"))["hits"]
            assert (hit["kind"], hit["name"], hit["detail"]) == ("workflow", ID, "Basket, Running")
        assert (await console.get("search?q=of bob"))["hits"] == []


async def test_a_search_leaves_out_executions_if_there_are_too_many(
    engine: EngineHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.client.start(Basket, id=ID)
    monkeypatch.setattr("workflows.engine.client.visibility.HEADS_MAX", 0)
    async with workflow_console(engine, tmp_path, None) as console:
        answer = await console.get("search?q=of ann")
    assert answer["hits"] == []
    assert "HEADS_MAX" in answer["leftOut"]


async def test_a_search_finds_only_the_newest_of_many_executions(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.console.workflow_answers.EXECUTIONS_FOUND_MAX", 2)
    heads = [await _head(engine, f"basket-{number}") for number in range(9)]
    newest = sorted(heads, key=lambda head: -head.started_ms)[:2]
    matching = await matching_executions(engine.visibility.heads(), "basket", "")
    assert [head.started_ms for head in matching] == [head.started_ms for head in newest]


async def _head(engine: EngineHarness, workflow_id: str) -> RunHead:
    await engine.client.start(Basket, id=workflow_id)
    return (await engine.visibility.describe(workflow_id)).head
