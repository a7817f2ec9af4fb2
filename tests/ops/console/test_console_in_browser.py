"""The console in a real Chromium.

All tests share one browser, because a browser starts slowly, and most share one tab. The fixture
``page`` checks after a test that this tab has no errors and requested nothing of another origin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from core.domain.events import BindingChanged
from core.errors import AccessDenied, Unauthenticated
from core.eventstore.codec import EventDraft
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.group_commit import Proposal
from ops.console.event_stream import Gap
from ops.console.workflow_actions import WorkflowActions
from tests.support.browser import Page, View, require_chromium, running_browser
from tests.support.console_harness import (
    COOLING_ADDRESS,
    HELD_ADDRESS,
    HOSTILE_TEXT,
    RELEASE_TRACE,
    WIDE_REQUEST,
    ConsoleHarness,
    running_console,
    served_console,
)
from tests.support.etcd import EtcdCluster
from tests.support.node_harness import TEST_CAUSE, pod
from workflows.engine.client.client import Client

pytestmark = [pytest.mark.etcd, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

SHOWN = """document.querySelector('#main')?.ariaBusy === 'false'
  && document.querySelector('#content:not(.old)') !== null"""
"""JavaScript: whether the page has loaded. ``show`` marks the previous content as ``old``."""

IS_CONNECTED = "document.querySelector('.live')?.classList.contains('is-connected')"
"""JavaScript: whether the page gets new events."""

PAGES = {
    "#/": "Overview",
    "#/pools/lan": "Pool lan",
    "#/pools/wide": "Pool wide",
    "#/pools/six": "Pool six",
    f"#/addresses/{HELD_ADDRESS}": f"Address {HELD_ADDRESS}",
    "#/addresses?state=resting": "Addresses",
    "#/pods/shop/web-0": "Pod shop/web-0",
    "#/nodes/node-b": "Node node-b",
    "#/reservations/printers": "Reservation printers",
    "#/coordinators/default": "Coordinator default",
    "#/events?kind=addresses-released&since=1h": "Events",
    "#/refusals": "Refusals",
    "#/workflows": "Workflows",
    "#/workflows?at=2026-01-01T13:00:00Z": "Workflows",
    "#/search?q=web": "Search: web",
}
REACHABLE = """[...document.querySelectorAll('a[href], button, input, select, [tabindex="0"]')]
  .filter((node) => node.tabIndex >= 0 && node.checkVisibility())"""
WORKFLOW = "basket/of ann"
TOKEN = "a-token"
REFUSED_TOKEN = "of-another-user"
VERDICT = "(document.querySelector('.verdict')?.innerText ?? '')"


class TokenAccess:
    async def check(self, headers: Mapping[str, str]) -> str:
        if headers.get("Authorization") == f"Bearer {REFUSED_TOKEN}":
            raise AccessDenied("the user may not read the console", subject="Authorization")
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Unauthenticated("the request has no bearer token", subject="Authorization")
        return "a-user"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(
    etcd: EtcdCluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ConsoleHarness]:
    require_chromium()
    store = EtcdStore(EtcdSettings(etcd.endpoints))
    archive: Path = tmp_path_factory.mktemp("archive")
    async with running_console(store, "console", archive) as harness:
        yield harness
    await store.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tab(
    console: ConsoleHarness, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Page]:
    async with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        page = await browser.open(console.url)
        await page.expect(SHOWN)
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def page(tab: Page, console: ConsoleHarness) -> AsyncIterator[Page]:
    tab.errors.clear()
    await tab.show_as(View())
    yield tab
    assert tab.errors == []
    assert [url for url in tab.requests if not url.startswith(console.url)] == []


async def show(page: Page, path: str) -> None:
    """Load or reload a page of the console."""
    await page.evaluate(f"""document.querySelector('#content').classList.add('old');
      history.pushState(null, '', {path!r}); window.dispatchEvent(new Event('locationchange'))""")
    await page.expect(SHOWN)


async def text_of(page: Page, selector: str) -> str:
    return str(await page.evaluate(f"document.querySelector({selector!r}).innerText"))


async def evaluate_in(page: Page, module: str, expression: str) -> Any:
    """Evaluate an expression that uses a JavaScript module of the console as ``module``."""
    return await page.evaluate(f"import('./{module}').then((module) => {expression})")


async def test_every_page_renders_in_light_and_dark_and_on_a_narrow_screen(page: Page) -> None:
    for view in (View(), View(390, 844, "dark")):
        await page.show_as(view)
        for path, title in PAGES.items():
            await show(page, path)

            await page.expect(f"document.querySelector('h1')?.innerText === {title!r}")
            assert await page.evaluate("document.querySelector('.notice-error') === null"), path
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= view.width, f"{path} is {width} pixels wide"


async def test_a_warning_names_parts_of_the_log_that_cannot_be_read(page: Page) -> None:
    part = "{first: 5, last: 9, message: 'the log at positions 5 to 9 is left out', remedy: ''}"
    warning = "document.getElementById('log-warning').innerText"
    await evaluate_in(page, "log_warning.js", f"module.showUnread({{unread: [{part}]}})")
    assert await page.evaluate(warning) == "The log at positions 5 to 9 is left out."
    await evaluate_in(page, "log_warning.js", "module.showUnread({unread: []})")
    assert await page.evaluate("document.getElementById('log-warning').hidden")


@pytest.mark.parametrize(
    ("links", "answers"),
    [
        # Which Pod has the address, and which Pod had it before?
        ([f"search {HELD_ADDRESS}"], ["12:02:00Z", "shop/web-1", "12:05:00Z", "shop/web-0"]),
        # Why has web-9 no address?
        (
            ["search web-9", "shop/web-9"],
            ["It holds no address", "all of its addresses are in use"],
        ),
        # Which addresses are in cool-down ("resting" in the API), and until when?
        (["#/addresses?state=resting"], [COOLING_ADDRESS, "until", "shop/web-3"]),
        # What changed in the ten minutes before 12:29?
        (["#/events?since=10m&at=2026-01-01T12:29:00Z"], ["record-defined", "pool-defined"]),
        # Which reservation has the address, and who defined the reservation?
        (["search 10.6.0.20", "printers"], ["10.6.0.20-10.6.0.21", "defined", TEST_CAUSE.actor]),
        # Where does the node get its coordinator settings?
        (["#/nodes/node-b"], ["From SpiderCoordinator default (Synced)", "conf.yml of the node"]),
        # How has the mode of the coordinator changed?
        (["#/nodes/node-b", "default"], ['mode: "auto" -> "underlay"', "10.244.0.0/16"]),
        # Which pool will be full first?
        (["#/"], ["Full in", "lan"]),
    ],
)
async def test_pages_and_links_answer_a_users_question(
    page: Page, links: list[str], answers: list[str]
) -> None:
    await show(page, "#/")
    for step in links:
        await _follow(page, step)
    # The history of 10.6.0.20 has no events, so Chromium reports a 404.
    page.errors[:] = [error for error in page.errors if "/addresses/10.6.0.20/" not in error]
    content = await text_of(page, "#content")
    assert all(answer.lower() in content.lower() for answer in answers), content


async def _follow(page: Page, step: str) -> None:
    """Follow ``step``: a path to open, "search TEXT", or the text of a link to click."""
    word, _, text = step.partition(" ")
    if step.startswith("#"):
        await show(page, step)
    elif word == "search":
        await page.evaluate(f"document.getElementById('search').value = {text!r}")
        await page.evaluate("document.getElementById('search').form.requestSubmit()")
    else:
        link = f"[...document.querySelectorAll('#content a')].find((a) => a.innerText === {step!r})"
        await page.expect(f"{link} !== undefined")
        await page.evaluate(f"{link}.click()")
    await page.expect(f"location.hash.length > 1 && {SHOWN}")


async def test_a_typed_time_shows_the_holder_at_this_time(page: Page) -> None:
    await show(page, f"#/addresses/{HELD_ADDRESS}")
    assert "Now: allocated to shop/web-0" in await page.evaluate(VERDICT)

    await page.evaluate("document.querySelector('.instant').focus()")
    await page.type_text("12:03")
    await page.press("Enter")

    await page.expect(f"{VERDICT}.includes('allocated to shop/web-1')")
    assert "at=2026-01-01T12%3A03%3A00" in await page.evaluate("location.hash")
    assert await page.evaluate("document.documentElement.classList.contains('in-the-past')")

    await page.evaluate("document.querySelector('.live').click()")
    await page.expect(f"{VERDICT}.includes('allocated to shop/web-0')")
    assert "at=" not in await page.evaluate("location.hash")


async def test_the_slider_moves_by_keys_and_plays_up_to_the_present(page: Page) -> None:
    await show(page, f"#/addresses/{HELD_ADDRESS}")

    await page.evaluate("document.querySelector('[type=range]').focus()")
    await page.press("Home")
    await page.expect(f"{VERDICT}.includes('free')")
    await page.press("End")
    await page.expect(f"{VERDICT}.includes('Now: allocated')")

    await page.evaluate("document.querySelector('[aria-label=\"Speed of playing\"]').value = '16'")
    await page.evaluate("document.querySelector('.play').click()")
    await page.expect(f"!{VERDICT}.includes('Now')")
    await page.expect(f"{VERDICT}.includes('Now: allocated')")


async def test_stepping_over_an_event_shows_the_state_before_and_after_it(page: Page) -> None:
    await show(page, f"#/addresses/{COOLING_ADDRESS}?at=2026-01-01T13%3A30%3A00Z")
    await page.expect(f"{VERDICT}.includes('allocated to shop/web-3')")

    await page.evaluate("document.querySelector('[title=\"Before the last event\"]').click()")
    await page.expect(f"{VERDICT}.includes('free')")
    await page.evaluate("document.querySelector('[title=\"After the next event\"]').click()")
    await page.expect(f"{VERDICT}.includes('allocated to shop/web-3')")


async def test_the_pointer_and_keys_show_the_holder_of_a_cell(page: Page) -> None:
    await show(page, "#/pools/lan")
    label = await page.evaluate(
        f"document.querySelector('[data-key=\"{HELD_ADDRESS}\"]').ariaLabel"
    )
    assert label == f"{HELD_ADDRESS} allocated, held by shop/web-0"

    await page.point_at(f'[data-key="{COOLING_ADDRESS}"]')
    await page.expect(
        "document.querySelector('.grid-details').innerText.includes('Cool-down until')"
    )
    assert "shop/web-3" in await text_of(page, ".grid-details")
    states = (
        "[...document.querySelectorAll('.cell')].map((cell) => cell.ariaLabel.split(/[ ,]/)[1])"
    )
    assert await page.evaluate(states) == [
        *("allocated", "outside", "outside", "reserved", "reserved"),
        *("quarantined", "resting", "excluded", "excluded"),
    ]

    await page.evaluate("document.querySelector('.cell[tabindex=\"0\"]').focus()")
    await page.press("End")
    await page.press("Home")
    assert "shop/web-0" in await text_of(page, ".grid-details")
    await page.press("Enter")
    await page.expect(f"document.querySelector('h1').innerText === 'Address {HELD_ADDRESS}'")


@pytest.mark.parametrize("pool", ["wide", "six"])
async def test_a_large_pool_is_opened_range_by_range(page: Page, pool: str) -> None:
    await show(page, f"#/pools/{pool}")

    for _ in range(8):
        if await page.evaluate("document.querySelector('.range') === null"):
            break
        before = await text_of(page, ".ranges strong")
        await page.evaluate("document.querySelector('.cell-count').closest('a').click()")
        await page.expect(f"document.querySelector('.ranges strong').innerText !== {before!r}")

    holder = await page.evaluate("document.querySelector('.cell.state-allocated').ariaLabel")
    assert "held by shop/" in holder
    assert "first=" in await page.evaluate("location.hash")


async def test_the_page_of_a_pod_without_an_address_shows_the_reason(page: Page) -> None:
    await show(page, "#/search?q=web-9")
    assert "no address: used-out on node-a" in await text_of(page, "#content")
    await page.evaluate("document.querySelector('.hits a').click()")

    await page.expect("document.querySelector('h1').innerText === 'Pod shop/web-9'")
    content = await text_of(page, "#content")
    assert "It holds no address at this instant" in content
    assert "all IP addresses used out" in content
    assert "The pools come from the default IPPools of the cluster." in content


async def test_pages_of_pod_and_address_show_the_network_providers_binding(
    page: Page, console: ConsoleHarness
) -> None:
    bound = BindingChanged(
        "shop",
        "web-0",
        pod="web-0",
        uid="uid-web-0",
        node="node-a",
        addresses=(HELD_ADDRESS,),
        state="bound",
    )
    writer = console.node_a.writer
    draft = EventDraft(writer.event_id(), TEST_CAUSE, bound)
    await writer.append(Proposal((draft,), (), ()))

    for path in ("#/pods/shop/web-0", f"#/addresses/{HELD_ADDRESS}"):
        await show(page, path)
        await page.expect(
            "document.querySelector('#content').innerText.includes('network provider: bound')"
        )


async def test_a_search_finds_a_release_by_its_trace(page: Page) -> None:
    await show(page, f"#/search?q={RELEASE_TRACE}")
    assert "addresses-released" in await text_of(page, ".hits li")
    await page.evaluate("document.querySelector('.hits a').click()")

    await page.expect("document.querySelector('h1').innerText === 'Events'")
    await page.expect("document.querySelector('tbody tr') !== null")
    assert "addresses-released" in await text_of(page, "tbody tr")


async def test_a_user_finds_and_signals_an_execution(tab: Page, console: ConsoleHarness) -> None:
    keys, store = console.node_a.keys, console.node_a.store
    async with Client(store, keys) as client:
        await client.start("Basket", id=WORKFLOW)
    actions = WorkflowActions(store, keys, TokenAccess())
    async with served_console(console.source, TokenAccess(), actions) as url:
        page = await tab.browser.open(url)
        await page.expect("document.querySelector('#token') !== null")
        await page.evaluate(f"sessionStorage.setItem('orbweaver-token', '{TOKEN}')")
        page.errors.clear()
        await show(page, "#/search?q=of ann")
        await page.evaluate("document.querySelector('.hits a').click()")
        await page.expect("document.querySelector('.actions') !== null")
        await page.evaluate("document.querySelector('[data-key=action-name]').focus()")
        await page.type_text("put")
        # A new event reloads the page.
        await console.node_a.add(pod("late-0"), request=WIDE_REQUEST)
        await show(page, await page.evaluate("location.hash"))
        await page.evaluate("document.querySelector('[data-key=action-arguments]').focus()")
        await page.type_text('["bread"]')
        await page.press("Enter")
        await page.expect("document.querySelector('.notice-good') !== null")
        assert page.errors == []
    visibility = console.source.visibility()
    assert (await visibility.describe(WORKFLOW)).inbox_messages == 2  # the start and the signal


async def test_an_executions_page_has_no_actions_if_actions_are_disabled(
    page: Page, console: ConsoleHarness
) -> None:
    async with Client(console.node_a.store, console.node_a.keys) as client:
        await client.start("Basket", id="basket/of bob")
    await show(page, "#/workflows/basket%2Fof%20bob")
    assert "a worker" in await text_of(page, ".lead")
    assert await page.evaluate("document.querySelector('.actions') === null")


async def test_the_tab_key_reaches_every_link_button_and_field(page: Page) -> None:
    for path in ("#/", "#/pools/lan", "#/events"):
        await show(page, path)
        await page.expect(IS_CONNECTED)  # the connection changes the HTML of the button
        await page.evaluate(f"window.reachable = {REACHABLE}; window.reached = new Set()")
        count = int(await page.evaluate("reachable.length"))
        await page.evaluate("document.body.focus(); document.activeElement.blur()")
        # The first round may begin in the middle of the page; the second round begins at the top.
        for _ in range(2 * count + 2):
            await page.press("Tab")
            await page.evaluate("reached.add(document.activeElement.outerHTML)")

        # Compare HTML, because an update of the page may replace elements by equal elements.
        missed = "reachable.map((node) => node.outerHTML).filter((html) => !reached.has(html))"
        assert await page.evaluate(missed) == [], path
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        await page.press("Tab")
        assert await page.evaluate(outline) != "none"


async def test_an_open_page_shows_new_events(page: Page, console: ConsoleHarness) -> None:
    await show(page, "#/events?namespace=shop")
    await page.expect(IS_CONNECTED)
    await page.expect("document.body.innerText.includes('New events appear here')")

    await console.node_a.add(pod("late-1"), request=WIDE_REQUEST)
    await page.expect("document.querySelector('td a[href*=\"late-1\"]') !== null")

    await page.evaluate("document.querySelector('#content').classList.add('old')")
    console.source.feed._publish(Gap(0))
    await page.expect(SHOWN)  # a gap reloads the page

    await show(page, "#/nodes/node-a")
    assert COOLING_ADDRESS in await text_of(page, "section:nth-of-type(2)")  # released addresses
    await console.node_a.add(pod("late-2"), request=WIDE_REQUEST)
    await page.expect("document.querySelector('td a[href*=\"late-2\"]') !== null")


async def test_the_page_requests_a_token_again_if_the_token_is_denied(
    tab: Page, console: ConsoleHarness
) -> None:
    async with served_console(console.source, TokenAccess()) as url:
        page = await tab.browser.open(url)
        await page.expect("document.querySelector('#token') !== null")
        await page.evaluate("document.querySelector('#token').focus()")
        await page.type_text(TOKEN)
        await page.press("Enter")

        await page.expect("document.querySelector('h1').innerText === 'Overview'")
        await page.expect("document.querySelector('.live').classList.contains('is-connected')")
        await show(page, "#/pools/lan")
        await page.expect("document.querySelector('.cell') !== null")
        assert TOKEN not in await page.evaluate("location.href + document.cookie")
        await page.evaluate(f"sessionStorage.setItem('orbweaver-token', '{REFUSED_TOKEN}')")
        await page.evaluate("window.dispatchEvent(new Event('locationchange'))")
        await page.expect("document.querySelector('#token') !== null")
        assert all(TOKEN not in request for request in page.requests)


async def test_texts_of_the_log_are_never_shown_as_markup(page: Page) -> None:
    for path in ("#/", "#/addresses/10.6.0.22", "#/events?kind=address-quarantined"):
        await show(page, path)

        await page.expect(
            f"document.getElementById('content').innerText.includes({HOSTILE_TEXT!r})"
        )
        assert await page.evaluate("document.querySelector('#content img') === null")


async def test_addresses_are_parsed_and_written_as_in_rfc_5952(page: Page) -> None:
    for text in ("10.6.0.17", "fd00:6::", "::", "::1", "2001:db8::1:0:0:1", "fe80::1:0:0:0"):
        parsed = f"Object.values(module.parseAddress('{text}'))"
        written = await evaluate_in(page, "numbers.js", f"module.formatAddress(...{parsed})")
        assert written == text
    for text in ("10.6.0", "10.6.0.256", "fd00::6::1", "12345::", "web-0", ""):
        assert await evaluate_in(page, "numbers.js", f"module.parseAddress('{text}')") is None


async def test_typed_times_are_parsed_as_orbctl_parses_them(page: Page) -> None:
    now = 1_767_274_200_000  # 2026-01-01 13:30:00Z
    for text, expected in {
        "14:03": "2026-01-01 14:03:00Z",
        "2026-03-01 14:03": "2026-03-01 14:03:00Z",
        "2026-03-01T14:03:00+02:00": "2026-03-01 12:03:00Z",
        "2026-03-01": "2026-03-01 00:00:00Z",
        "90m": "2026-01-01 12:00:00Z",
        "yesterday": "-",
    }.items():
        parsed = f"module.instantText(module.parseInstant('{text}', {now}))"
        assert await evaluate_in(page, "time_text.js", parsed) == expected
