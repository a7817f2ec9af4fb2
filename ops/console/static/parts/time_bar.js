/**
 * The time bar: a slider over the log, a play button, an input for an instant, and a button for live.
 *
 * It only changes the URL (`at`, `span`); the page then shows the instant. While it plays, it waits until
 * the page shows an instant before it requests the next: a slow server makes fewer frames, not a queue.
 */

import { read } from "../api.js";
import { element, replace } from "../dom.js";
import { showUnread } from "../log_warning.js";
import { hrefHere, navigate, readLocation, showInstant } from "../location.js";
import { apiTime, instantText, msOf, parseInstant } from "../time_text.js";
import { activityChart, markLabels } from "./activity_chart.js";
import { buildTimeBar, playIcon } from "./time_bar_view.js";
import { SPANS, marksOf, playRateOf, stepOf, windowOf } from "./time_window.js";

const FRAME_MS = 200; // between two instants while the console plays
const BUCKETS = 240;
const LOG_STALE_MS = 30_000;
const SEGMENT_EVENTS = 64; // events read to find the previous position: those of one transaction share one
const MARKS_MAX = 6;

export class TimeBar {
  #view;
  #settled;
  #log = null; // {firstMs, nowMs}
  #readAtMs = -Infinity; // by the monotonic clock
  #window = null;
  #isPlaying = false;
  #instant = null; // {position, ms} that the page shows

  /** `settled()`: a promise that resolves when the page shows the instant of the URL. */
  constructor(root, settled) {
    this.#settled = settled;
    this.#view = buildTimeBar(root, {
      slide: () => this.#slide(),
      key: (event) => this.#key(event),
      toggle: () => this.#toggle(),
      before: () => this.#step("before"),
      after: () => this.#step("after"),
      typed: (event) => this.#typed(event),
      live: () => this.#showLive(),
      span: (span) => navigate(hrefHere({ span })),
    });
  }

  /** Reads the extent of the log. */
  async start() {
    this.#readAtMs = performance.now();
    try {
      const log = await read(["log"], { buckets: 1 });
      showUnread(log);
      const nowMs = msOf(log.now);
      this.#log = { firstMs: msOf(log.first.time) ?? nowMs - 1000, nowMs };
      this.#window = null;
      this.#place(readLocation());
    } catch (error) {
      console.warn("the extent of the log is unknown:", error.message);
    }
  }

  /** Reads the extent again after new events, at most every `LOG_STALE_MS`. */
  follow() {
    if (performance.now() - this.#readAtMs > LOG_STALE_MS) this.start();
  }

  /** Shows whether new events arrive. */
  connection(isConnected) {
    this.#view.live.classList.toggle("is-connected", isConnected);
    this.#view.live.title = isConnected ? "New events arrive" : "New events do not arrive: no connection";
  }

  /** Shows the state of the URL, before the page is read. */
  update(state) {
    const { span, live, play, mode, field } = this.#view;
    if (state.isLive) this.#isPlaying = false;
    this.#instant = { position: null, ms: state.isLive ? null : msOf(/^\d+$/.test(state.at) ? null : state.at) };
    span.value = SPANS.some(([value]) => value === state.query.span) ? state.query.span : "";
    live.setAttribute("aria-pressed", String(state.isLive));
    play.setAttribute("aria-label", this.#isPlaying ? "Pause" : "Play");
    replace(play, playIcon(this.#isPlaying));
    mode.textContent = state.isLive ? "" : "As of";
    if (document.activeElement !== field) field.value = state.isLive ? "" : instantText(this.#instant.ms);
    this.#place(state);
  }

  /** Shows the instant of the server's answer. If the URL has a position, only the answer has its time. */
  answered(state, instant) {
    if (!instant) return;
    const { field } = this.#view;
    this.#instant = { position: instant.position, ms: this.#instant?.ms ?? msOf(instant.time) };
    if (!state.isLive && document.activeElement !== field) field.value = instantText(this.#instant.ms);
    this.#place(state);
  }

  #place(state) {
    if (!this.#log) return;
    const { range } = this.#view;
    const atMs = state.isLive ? null : this.#instant?.ms ?? null;
    const next = windowOf(state.query.span, atMs, this.#log, this.#window);
    if (this.#window?.fromMs !== next.fromMs || this.#window?.toMs !== next.toMs) this.#setWindow(next);
    range.value = atMs ?? next.toMs;
    range.setAttribute("aria-valuetext", state.isLive ? "live" : instantText(atMs));
    this.#view.track.style.setProperty("--share", String((Number(range.value) - next.fromMs) / (next.toMs - next.fromMs)));
  }

  #setWindow(next) {
    const { range, marks, chart } = this.#view;
    this.#window = next;
    range.min = next.fromMs;
    range.max = next.toMs;
    replace(marks, markLabels(marksOf(next, MARKS_MAX), next));
    read(["log"], { buckets: BUCKETS, from: apiTime(next.fromMs), to: apiTime(next.toMs) })
      .then((log) => this.#window === next && replace(chart, activityChart(log.density, next)))
      .catch(() => replace(chart));
  }

  #slide() {
    const at = Number(this.#view.range.value);
    if (at >= Number(this.#view.range.max)) this.#showLive();
    else showInstant(apiTime(at), { replaced: true });
  }

  #key(event) {
    if (!this.#window) return;
    const step = stepOf(this.#window);
    const moves = {
      ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step, PageDown: -10 * step, PageUp: 10 * step,
    };
    if (event.key === "End") this.#showLive();
    else if (event.key === "Home") showInstant(apiTime(this.#window.fromMs), { replaced: true });
    else if (event.key in moves) this.#move(moves[event.key]);
    else return;
    event.preventDefault();
  }

  #move(distanceMs) {
    const at = Number(this.#view.range.value) + distanceMs;
    if (at >= this.#log.nowMs) this.#showLive();
    else showInstant(apiTime(Math.max(this.#log.firstMs, at)), { replaced: true });
  }

  /** Shows the state before the last event, or after the next one. */
  async #step(direction) {
    const { at, isLive } = readLocation();
    const position = this.#instant?.position;
    if (position === null || position === undefined || (isLive && direction === "after")) return;
    try {
      if (direction === "after") {
        const { items } = await read(["events"], { after: position, limit: 1 });
        showInstant(items.length > 0 ? String(items[0].position) : "");
      } else {
        const { items } = await read(["events"], { at, limit: SEGMENT_EVENTS });
        const earlier = items.find((event) => event.position < items[0].position);
        if (earlier) showInstant(String(earlier.position));
      }
    } catch (error) {
      console.warn("the events around this instant cannot be read:", error.message);
    }
  }

  #typed(event) {
    event.preventDefault();
    const { field } = this.#view;
    if (!this.#log) return;
    const text = field.value.trim();
    const { nowMs } = this.#log;
    if (text === "" || text === "now") {
      this.#showLive();
      return;
    }
    // A time without a date belongs to the day that is shown; `15m` means before now.
    const nearMs = text.includes(":") ? this.#instant?.ms ?? nowMs : nowMs;
    const at = parseInstant(text, nearMs);
    if (at === null) {
      field.setCustomValidity("Write 2026-03-01 14:03, 14:03 or 15m (ago). Times are UTC.");
      field.reportValidity();
      return;
    }
    field.blur();
    showInstant(apiTime(at));
  }

  #showLive() {
    this.#isPlaying = false;
    showInstant("");
    this.update(readLocation());
  }

  #toggle() {
    this.#isPlaying = !this.#isPlaying;
    if (this.#isPlaying) this.#play();
    else this.update(readLocation());
  }

  async #play() {
    if (!this.#window) return;
    // On the live page, playing begins at the left end.
    if (readLocation().isLive) showInstant(apiTime(this.#window.fromMs));
    let last = performance.now();
    while (this.#isPlaying) {
      await Promise.all([this.#settled(), new Promise((resolve) => setTimeout(resolve, FRAME_MS))]);
      if (!this.#isPlaying || readLocation().isLive) break;
      const now = performance.now();
      const at = Number(this.#view.range.value) + ((now - last) / 1000) * playRateOf(this.#window, Number(this.#view.speed.value));
      last = now;
      if (at >= this.#window.toMs) this.#showLive();
      else showInstant(apiTime(at), { replaced: true });
    }
    this.#isPlaying = false;
    this.update(readLocation());
  }
}
