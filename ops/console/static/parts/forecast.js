/** The forecast of a pool or a subnet as words and as a curve of its growth. */

import { element, svg } from "../dom.js";
import { distanceText, durationText, instantText, msOf } from "../time_text.js";

const WIDTH = 320;
const HEIGHT = 48;
const SOON_MS = 7 * 24 * 3_600_000;

/** A few words for a table: `3d12h`, `full`, `-`. */
export function forecastWord({ forecast }, nowMs) {
  const expected = msOf(forecast?.expected);
  if (expected === null) return element("span", { title: forecast?.noTrend ?? "" }, "-");
  if (expected <= nowMs) return element("strong", { class: "urgent" }, "full");
  const isSoon = expected - nowMs < SOON_MS;
  return element("span", { class: isSoon ? "urgent" : null, title: forecastText({ forecast }, nowMs) }, durationText(expected - nowMs));
}

/** Milliseconds until the pool or subnet is full; null if nothing is predicted. */
export function fullInMs({ forecast }, nowMs) {
  const expected = msOf(forecast?.expected);
  return expected === null ? null : expected - nowMs;
}

/** Sentences: when the pool or subnet is full and how certain that is, or why nothing is predicted. */
export function forecastText({ forecast }, nowMs) {
  if (!forecast) return "There is no forecast for this instant.";
  const expected = msOf(forecast.expected);
  if (expected === null) return `No forecast: ${forecast.noTrend || "the history is too short"}.`;
  if (expected <= nowMs) return "It is full: no address can be assigned.";
  const basis = forecast.basisDays ? `, measured in the last ${forecast.basisDays === 1 ? "day" : `${forecast.basisDays} days`}` : "";
  const interval = forecast.earliest
    ? ` With a probability of 80 % between ${instantText(forecast.earliest)} and ${forecast.latest ? instantText(forecast.latest) : "never"}.`
    : "";
  return `Full ${distanceText(expected, nowMs)}, on ${instantText(forecast.expected)}, at ${growthText(forecast.perDay)} addresses a day`
    + `${basis}.${interval}`;
}

function growthText(perDay) {
  return `${perDay > 0 ? "+" : ""}${perDay.toFixed(1)}`;
}

/** The number of allocated addresses hour by hour. Null without at least two hours. */
export function growthChart(growth) {
  if (!growth || growth.length < 2) return null;
  const highest = Math.max(1, ...growth);
  const points = growth.map((count, index) => {
    const x = (index / (growth.length - 1)) * WIDTH;
    return `${x.toFixed(1)},${(HEIGHT - 2 - (count / highest) * (HEIGHT - 4)).toFixed(1)}`;
  });
  const label = `Allocated addresses in the last ${growth.length} hours: from ${growth[0]} to ${growth.at(-1)}, at most ${highest}`;
  return element("figure", { class: "growth" },
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, preserveAspectRatio: "none" },
      svg("polygon", { class: "area", points: `0,${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}` }),
      svg("polyline", { class: "line", points: points.join(" ") })),
    element("figcaption", {}, `allocated, last ${durationText(growth.length * 3_600_000)}: ${growth[0]} → ${growth.at(-1)}`));
}
