/** The number of events over time: a bar for each interval of the slider's window, and time marks below. */

import { element, svg } from "../dom.js";
import { DAY_MS, instantText, msOf } from "../time_text.js";

const WIDTH = 1000;
const HEIGHT = 100;
const VISIBLE_MIN = 15;

/** `density`: `{time, events}` of intervals of equal length. Heights are logarithmic, so that quiet hours are visible. */
export function activityChart(density, { fromMs, toMs }) {
  if (density.length === 0) return null;
  const highest = Math.log1p(Math.max(1, ...density.map(({ events }) => events)));
  const starts = density.map(({ time }) => msOf(time));
  const length = density.length > 1 ? starts[1] - starts[0] : toMs - fromMs;
  const width = ((length / (toMs - fromMs)) * WIDTH * 0.85).toFixed(2);
  const bars = density.map(({ events }, index) => {
    if (events === 0) return "";
    const x = ((starts[index] - fromMs) / (toMs - fromMs)) * WIDTH;
    const height = Math.max(VISIBLE_MIN, (Math.log1p(events) / highest) * HEIGHT).toFixed(1);
    return `M${x.toFixed(2)} ${HEIGHT}v-${height}h${width}v${height}z`;
  });
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" }, svg("path", { d: bars.join("") }));
}

/** The labels of the marks: days where the window is longer than two days, else times. */
export function markLabels(marks, { fromMs, toMs }) {
  const hasDaysOnly = toMs - fromMs > 2 * DAY_MS;
  return marks.map((at) => {
    const part = hasDaysOnly || at % DAY_MS === 0 ? [5, 10] : [11, 16];
    return element("span", { style: { left: `${((at - fromMs) / (toMs - fromMs)) * 100}%` } }, instantText(at).slice(...part));
  });
}
