/** The elements of the time bar. They hold no state: `parts/time_bar.js` sets what they show. */

import { element, replace, svg } from "../dom.js";
import { SPANS } from "./time_window.js";

const SPEEDS = [["0.25", "¼×"], ["1", "1×"], ["4", "4×"], ["16", "16×"]];
const BEFORE = "M11 2L4 8l7 6zM2 2h2v12H2z";
const AFTER = "M5 2l7 6-7 6zM12 2h2v12h-2z";
const PLAY = "M4 2l10 6-10 6z";
const PAUSE = "M3 2h4v12H3zM9 2h4v12H9z";

/** Fills `root`. `on` has the listeners: slide, key, toggle, before, after, typed, live, span. */
export function buildTimeBar(root, on) {
  const view = {
    range: element("input", {
      type: "range", step: 1, min: 0, max: 1, value: 1, "aria-label": "Instant that the page shows",
      on: { input: on.slide, keydown: on.key },
    }),
    chart: element("div", { class: "time-chart", "aria-hidden": "true" }),
    marks: element("div", { class: "time-marks", "aria-hidden": "true" }),
    play: element("button", { type: "button", class: "play", on: { click: on.toggle } }),
    mode: element("strong", { class: "time-mode" }),
    field: element("input", {
      type: "text", class: "instant", size: 20, maxlength: 40, spellcheck: "false", autocomplete: "off",
      "aria-label": "Instant in UTC", placeholder: "now (UTC)", title: "2026-03-01 14:03, 14:03 or 15m (ago); UTC",
      on: { input: (event) => event.target.setCustomValidity("") },
    }),
    live: element("button", { type: "button", class: "live", on: { click: on.live } }, "Live"),
    span: select("Part of the log that the slider covers", SPANS, (event) => on.span(event.target.value)),
    speed: select("Speed of playing", SPEEDS, () => {}),
  };
  view.speed.value = "1";
  view.track = element("div", { class: "time-track" }, view.chart, view.range, view.marks);
  replace(root,
    element("div", { class: "time-buttons" },
      iconButton("Before the last event", BEFORE, on.before), view.play,
      iconButton("After the next event", AFTER, on.after), view.speed),
    view.track,
    element("div", { class: "time-state" }, view.mode,
      element("form", { class: "time-form", on: { submit: on.typed } }, view.field, element("button", { type: "submit" }, "Go")),
      view.span, view.live));
  return view;
}

/** The icon of the play button. */
export function playIcon(isPlaying) {
  return icon(isPlaying ? PAUSE : PLAY);
}

function iconButton(label, path, clicked) {
  return element("button", { type: "button", "aria-label": label, title: label, on: { click: clicked } }, icon(path));
}

function icon(path) {
  return svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, svg("path", { d: path }));
}

function select(label, options, changed) {
  return element("select", { "aria-label": label, title: label, on: { change: changed } },
    options.map(([value, text]) => element("option", { value }, text)));
}
