/**
 * Draws intervals of time: a lane for each subject, a bar for each interval.
 *
 * To a screen reader the drawing is one image: a table beside it has the same content.
 */

import { element } from "../dom.js";
import { instantText } from "../time_text.js";
import { markLabels } from "./activity_chart.js";
import { marksOf } from "./time_window.js";

const LANES_MAX = 40;
const HUES = 6; // style/parts.css has a colour for each
const MARKS_MAX = 6;
const BAR_MIN = 4; // pixels, so that an interval that has just begun is visible
const MARGIN = 0.02; // of the range, before the first bar

/**
 * `lanes`: `[{name, bars: [{fromMs, toMs or null, label, kind}]}]`; `toMs` null lasts until `endMs`.
 * `kind` is "held" or "quarantined". Null without any bar.
 */
export function timeline(lanes, endMs, label) {
  const starts = lanes.flatMap(({ bars }) => bars.map(({ fromMs }) => fromMs));
  if (starts.length === 0) return null;
  const first = Math.min(...starts);
  const length = Math.max(1000, endMs - first);
  const range = { fromMs: first - length * MARGIN, toMs: first + length };
  const hue = hues();
  return element("figure", { class: "timeline", role: "img", "aria-label": label },
    lanes.slice(0, LANES_MAX).map(({ name, bars }) => element("div", { class: "lane" },
      element("span", { class: "lane-name" }, name),
      element("div", { class: "lane-track" }, bars.map((bar) => barNode(bar, range, hue))))),
    element("div", { class: "lane" }, element("span", { class: "lane-name" }),
      element("div", { class: "time-marks" }, markLabels(marksOf(range, MARKS_MAX), range))),
    lanes.length > LANES_MAX ? element("figcaption", {}, `The table has ${lanes.length - LANES_MAX} more.`) : null);
}

function barNode({ fromMs, toMs, label, kind }, range, hue) {
  const share = (ms) => `${((ms - range.fromMs) / (range.toMs - range.fromMs)) * 100}%`;
  return element("span", {
    class: `bar ${kind === "held" ? `hue-${hue(label)}` : `bar-${kind}`}`,
    title: `${label}: ${instantText(fromMs)} to ${toMs === null ? "now" : instantText(toMs)}`,
    style: { left: `min(${share(fromMs)}, calc(100% - ${BAR_MIN}px))`, width: `calc(${share(toMs ?? range.toMs)} - ${share(fromMs)})` },
  }, label);
}

/** Returns a function label -> colour number; up to `HUES` labels have different colours. */
function hues() {
  const numbers = new Map();
  return (label) => {
    if (!numbers.has(label)) numbers.set(label, numbers.size % HUES);
    return numbers.get(label);
  };
}
