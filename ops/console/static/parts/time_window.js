/**
 * The part of the log that the slider covers. Pure.
 *
 * The window has a fixed length or covers the whole log. On a live page it ends at the end of the log.
 * It does not move while the slider moves inside it.
 */

import { DAY_MS, HOUR_MS, WEEK_MS, parseLength } from "../time_text.js";

/** The lengths in the list, as written in the URL; "" is the whole log. */
export const SPANS = [
  ["", "whole log"], ["30d", "30 days"], ["7d", "7 days"], ["24h", "24 hours"], ["1h", "1 hour"], ["10m", "10 minutes"],
];

const STEPS = 500; // presses of an arrow key that move the slider over the whole window
const PLAY_S = 20; // seconds to play the whole window at normal speed

/** `{fromMs, toMs}` for a span, so that `atMs` (null: live) is inside. `log`: `{firstMs, nowMs}`. */
export function windowOf(span, atMs, log, previous = null) {
  const length = parseLength(span) ?? Infinity;
  const whole = { fromMs: log.firstMs, toMs: Math.max(log.nowMs, log.firstMs + 1000) };
  if (whole.toMs - whole.fromMs <= length) return whole;
  const newest = { fromMs: log.nowMs - length, toMs: log.nowMs };
  if (atMs === null || atMs >= newest.fromMs) return newest;
  if (previous && previous.toMs - previous.fromMs === length && atMs >= previous.fromMs && atMs <= previous.toMs) {
    return previous;
  }
  const fromMs = Math.max(log.firstMs, Math.min(atMs - length / 2, newest.fromMs));
  return { fromMs, toMs: fromMs + length };
}

/** Milliseconds that an arrow key moves: at least a second. */
export function stepOf({ fromMs, toMs }) {
  return Math.max(1000, Math.round((toMs - fromMs) / STEPS / 1000) * 1000);
}

/** Milliseconds of the log that a second of playing shows. */
export function playRateOf({ fromMs, toMs }, speed) {
  return ((toMs - fromMs) / PLAY_S) * speed;
}

/** Instants for the marks below the slider, at most `count`: round hours, days or weeks. */
export function marksOf({ fromMs, toMs }, count) {
  const minutes = [1, 2, 5, 10, 15, 30].map((size) => size * 60_000);
  const hours = [1, 2, 3, 6, 12].map((size) => size * HOUR_MS);
  const days = [1, 2, 3].map((size) => size * DAY_MS);
  const weeks = [1, 2, 4, 8, 13, 26, 52, 104, 208].map((size) => size * WEEK_MS);
  const step = [...minutes, ...hours, ...days, ...weeks].find((size) => (toMs - fromMs) / size <= count);
  if (!step) return [];
  const marks = [];
  for (let at = Math.ceil(fromMs / step) * step; at <= toMs; at += step) marks.push(at);
  return marks;
}
