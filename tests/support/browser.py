"""A headless Chromium for tests of the console, driven by the DevTools protocol.

Chromium resolves no host names, so that it reaches no network.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import pytest

from tests.support.deadlines import DEADLINE_S, attempts
from tests.support.parts import CHROMIUM, needs

BROWSER_PROGRAM: Final = "chromium"
START_DEADLINE_S: Final = 60.0
STOP_DEADLINE_S: Final = 10.0
MESSAGE_BYTES_MAX: Final = 32 << 20
_POLL_S: Final = 0.02
_LOG_CHARACTERS: Final = 2_000
_FLAGS: Final = (
    *("--headless=new", "--remote-debugging-port=0", "--no-sandbox", "--disable-gpu"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-extensions", "--disable-default-apps", "--no-pings"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

KEYS: Final[Mapping[str, tuple[int, str]]] = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "Home": (36, ""),
    "End": (35, ""),
    "ArrowLeft": (37, ""),
    "ArrowUp": (38, ""),
    "ArrowRight": (39, ""),
    "ArrowDown": (40, ""),
}
"""Name of a key -> Windows key code, and the text that the key types."""


class View(NamedTuple):
    """A page's size in CSS pixels, and its colour scheme, "light" or "dark"."""

    width: int = 1280
    height: int = 900
    scheme: str = "light"


class ScriptFailed(AssertionError):
    """An expression in a page threw an error."""


def require_chromium() -> None:
    if shutil.which(BROWSER_PROGRAM) is None:
        pytest.skip(needs(CHROMIUM))


class Browser:
    """One Chromium process. ``log``: the file of its output."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, log: Path) -> None:
        self._socket = socket
        self._log = log
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._reader = asyncio.create_task(self._read_messages())

    async def close(self) -> None:
        """Ask the browser to end."""
        await self.send("Browser.close")
        await self._reader

    async def _read_messages(self) -> None:
        """Deliver answers and events until the browser closes the connection."""
        async for message in self._socket:
            body = json.loads(message.data)
            if "id" in body:
                self._answers.pop(body["id"]).set_result(body)
            elif body.get("sessionId") in self._pages:
                self._pages[body["sessionId"]].record(body["method"], body["params"])

    async def send(self, method: str, session: str = "", **parameters: object) -> dict[str, Any]:
        """Send a command; return the result.

        Raises AssertionError with the protocol's error, or with the end of the browser's output if
        the browser has ended or does not answer.
        """
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        body: dict[str, object] = {"id": number, "method": method, "params": parameters}
        with contextlib.suppress(ConnectionError):  # the browser has ended, and so does the reader
            await self._socket.send_json({**body, "sessionId": session} if session else body)
        await asyncio.wait(
            {answer, self._reader}, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED
        )
        assert answer.done(), f"{method}: no answer; Chromium's output: {output_end(self._log)}"
        assert "error" not in answer.result(), f"{method}: {answer.result()['error']}"
        return dict(answer.result()["result"])

    async def open(self, url: str, view: View = View()) -> Page:
        """Open a page with its own storage."""
        context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = await self.send("Target.createTarget", url="about:blank", browserContextId=context)
        target_id = target["targetId"]
        attached = await self.send("Target.attachToTarget", targetId=target_id, flatten=True)
        page = Page(self, str(attached["sessionId"]))
        self._pages[page.session] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.send(f"{domain}.enable")
        await page.show_as(view)
        await page.send("Page.navigate", url=url)
        return page


class Page:
    """One page. ``errors``: also its warnings. ``requests``: the URLs that it requested."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.session = session
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.browser = browser

    async def send(self, method: str, **parameters: object) -> dict[str, Any]:
        return await self.browser.send(method, self.session, **parameters)

    def record(self, event: str, body: dict[str, Any]) -> None:
        match event:
            case "Runtime.exceptionThrown":
                details = body["exceptionDetails"]
                self.errors.append(details.get("exception", details).get("description", str(body)))
            case "Runtime.consoleAPICalled" if body["type"] in {"error", "warning", "assert"}:
                self.errors.append(" ".join(str(part.get("value", part)) for part in body["args"]))
            case "Log.entryAdded" if body["entry"]["level"] in {"error", "warning"}:
                self.errors.append(f"{body['entry']['text']} {body['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(body["request"]["url"])

    async def show_as(self, view: View) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=view.width,
            height=view.height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": view.scheme}]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression or promise. Raises ScriptFailed."""
        answer = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise ScriptFailed(str(answer["exceptionDetails"].get("exception", answer)))
        return answer["result"].get("value")

    async def expect(self, expression: str) -> Any:
        """Wait until an expression is true; return the value."""
        for _ in attempts():
            value = await self.evaluate(expression)
            if value:
                return value
            await asyncio.sleep(_POLL_S)
        page_text = await self.evaluate("document.body.innerText")
        raise AssertionError(f"never true: {expression}; errors {self.errors}; page: {page_text}")

    async def press(self, key: str) -> None:
        """Press and release a key of ``KEYS``, or type a character."""
        code, text = KEYS.get(key, (ord(key[0].upper()), key))
        event = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **event)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **{**event, "text": ""})

    async def point_at(self, selector: str) -> None:
        box = await self.evaluate(
            f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()"
        )
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        await self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def type_text(self, text: str) -> None:
        await self.send("Input.insertText", text=text)

    async def picture(self) -> bytes:
        answer = await self.send("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])


def output_end(log: Path) -> str:
    """The end of the browser's output."""
    return log.read_text(errors="replace")[-_LOG_CHARACTERS:]


@asynccontextmanager
async def running_browser(directory: Path) -> AsyncIterator[Browser]:
    """Run Chromium, which writes its profile to ``directory``."""
    program = shutil.which(BROWSER_PROGRAM)
    assert program is not None, "call require_chromium() first"
    log = directory / "chromium.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            program,
            *(*_FLAGS, f"--user-data-dir={directory}", "about:blank"),
            stdout=file,
            stderr=file,
        )
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                await _debugger_url(directory, process), max_msg_size=MESSAGE_BYTES_MAX
            ) as socket,
        ):
            browser = Browser(socket, log)
            yield browser
            await browser.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_DEADLINE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _debugger_url(directory: Path, process: asyncio.subprocess.Process) -> str:
    log = directory / "chromium.log"
    file = directory / "DevToolsActivePort"
    for _ in attempts(START_DEADLINE_S):
        lines = file.read_text(encoding="ascii").split() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        assert process.returncode is None, f"Chromium has ended; its output: {output_end(log)}"
        await asyncio.sleep(_POLL_S)
    raise AssertionError(f"Chromium opened no DevTools port; its output: {output_end(log)}")
