/**
 * Shows the page of the URL, and shows it again when the URL or the log changes.
 *
 * At most one page is read at a time. Reading stops when the user goes to another page. While the
 * slider moves, instants that it passes during a read are skipped.
 */

import { forgetToken, token, tokenForm } from "./access.js";
import { ApiError } from "./api.js";
import { element, replace } from "./dom.js";
import { readLocation } from "./location.js";
import { LogFollower } from "./log_follower.js";
import { pageOf } from "./pages.js";
import { createHeader } from "./parts/header.js";
import { errorNotice } from "./parts/notice.js";
import { TimeBar } from "./parts/time_bar.js";

const NO_PAGE = { title: () => "Not found", load: () => { throw new ApiError(404, { message: "The console has no such page." }); } };

const main = document.getElementById("main");
const announcements = document.getElementById("announcements");
const header = createHeader();
const timeBar = new TimeBar(document.getElementById("time-bar"), () => shown);
const follower = new LogFollower(refresh, connectionChanged);

let onScreen = new AbortController(); // stops the requests of the content on the screen
let reading = null; // {state, controller} of the page that is being read
let isStale = false; // the URL or the log changed meanwhile
let shown = Promise.resolve();
let lastPath = null;
let lastControls = null;

function show() {
  const state = readLocation();
  if (reading) {
    isStale = true;
    if (pathOf(reading.state) !== pathOf(state)) reading.controller.abort();
    return;
  }
  shown = readAndShow(state).then(() => {
    reading = null;
    if (!isStale) return undefined;
    isStale = false;
    show();
    return shown;
  });
}

async function readAndShow(state) {
  const page = pageOf(state) ?? NO_PAGE;
  const controller = new AbortController();
  reading = { state, controller };
  document.documentElement.classList.toggle("in-the-past", !state.isLive);
  header.update(state);
  timeBar.update(state);
  main.setAttribute("aria-busy", "true");
  try {
    const data = await page.load(state, controller.signal);
    if (controller.signal.aborted) return;
    timeBar.answered(state, data.at);
    put(page, state, controller, page.view(data, state, controller.signal));
  } catch (error) {
    if (controller.signal.aborted) return;
    if (!(error instanceof ApiError)) console.error(error);
    put(page, state, controller, failure(error));
  } finally {
    main.setAttribute("aria-busy", "false");
  }
}

function failure(error) {
  if (error instanceof ApiError && (error.status === 401 || (error.code === "AccessDenied" && token()))) {
    forgetToken();
    return tokenForm(error.message, () => { timeBar.start(); follower.start(); show(); });
  }
  return errorNotice(error, show);
}

/** Puts the content on the screen. Controls of the same page are kept, with the text that the user typed. */
function put(page, state, controller, view) {
  const focused = main.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const content = element("div", { id: "content" }, view);
  onScreen.abort();
  onScreen = controller;
  const controls = JSON.stringify([state.path, { ...state.query, at: "", span: "" }]);
  if (controls === lastControls) {
    document.getElementById("content").replaceWith(content);
  } else {
    replace(main, element("h1", { tabindex: -1 }, page.heading?.(state) ?? page.title(state)), page.controls?.(state), content);
    lastControls = controls;
  }
  document.title = `${page.title(state)} · Orbweaver`;
  if (focused) main.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  if (lastPath !== null && lastPath !== pathOf(state)) enter(page.title(state));
  lastPath = pathOf(state);
}

function enter(title) {
  window.scrollTo(0, 0);
  main.querySelector("h1").focus({ preventScroll: true });
  announcements.textContent = title;
}

/** Reads the page again because the log grew, unless the page shows the past or `pages.js` excludes it. */
function refresh() {
  timeBar.follow();
  const state = readLocation();
  const page = pageOf(state);
  if (state.isLive && !page?.isLiveItself && !page?.isSteady) show();
}

/** Reads a page that showed an error again when the server answers again. */
function connectionChanged(isConnected) {
  timeBar.connection(isConnected);
  if (isConnected && main.querySelector(".notice-error")) show();
}

function pathOf(state) {
  return state.path.join("/");
}

for (const event of ["hashchange", "popstate", "locationchange"]) window.addEventListener(event, show);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash of the link would replace the state of the console
  main.focus();
});
timeBar.start();
follower.start();
show();
