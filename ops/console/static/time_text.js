/**
 * Converts instants and durations to text, and text to instants. Times are UTC, as in orbctl.
 *
 * Pure: the current time is an argument.
 */

export const SECOND_MS = 1000;
export const MINUTE_MS = 60 * SECOND_MS;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;
export const WEEK_MS = 7 * DAY_MS;

const UNITS = [["w", WEEK_MS], ["d", DAY_MS], ["h", HOUR_MS], ["m", MINUTE_MS], ["s", SECOND_MS]];
const UNIT_MS = Object.fromEntries(UNITS);

/** Unix milliseconds of a time of the API (RFC 3339); null for null. */
export function msOf(time) {
  return time ? Date.parse(time) : null;
}

/** `2026-01-01 13:25:00Z` of Unix milliseconds or of a time of the API; "-" for null. */
export function instantText(instant) {
  if (instant === null || instant === undefined || instant === "") return "-";
  return new Date(instant).toISOString().replace("T", " ").replace(/\.\d+Z$/, "Z");
}

/** `2026-01-01T13:25:00.250Z`, as in the URL. */
export function apiTime(ms) {
  return new Date(Math.round(ms)).toISOString();
}

/** `3d12h`, `5m10s`, `0s`: the two largest units. */
export function durationText(ms) {
  let remaining = Math.max(0, Math.round(ms / SECOND_MS)) * SECOND_MS;
  const parts = [];
  for (const [unit, size] of UNITS.slice(1)) {
    const count = Math.floor(remaining / size);
    remaining -= count * size;
    if (count > 0 || parts.length > 0) parts.push([count, unit]);
    if (parts.length === 2) break;
  }
  if (parts.length === 0) return "0s";
  return parts.filter(([count], index) => index === 0 || count > 0).map((part) => part.join("")).join("");
}

/** `5m ago`, `in 20s`. */
export function distanceText(ms, nowMs) {
  const text = durationText(Math.abs(nowMs - ms));
  return ms <= nowMs ? `${text} ago` : `in ${text}`;
}

/**
 * Unix milliseconds of what a user types: `2026-03-01T14:03:00Z`, `2026-03-01 14:03`, `2026-03-01`,
 * `14:03` (the day of `nowMs`), `15m` (before `nowMs`). Null if it is not a time.
 */
export function parseInstant(text, nowMs) {
  const typed = text.trim();
  const ago = /^(\d{1,6})\s*([smhdw])(\s+ago)?$/.exec(typed);
  if (ago) return nowMs - Number(ago[1]) * UNIT_MS[ago[2]];
  const clock = /^(\d{1,2}):(\d{2})(:\d{2})?Z?$/.exec(typed);
  const day = instantText(nowMs).slice(0, 10);
  const whole = clock ? `${day}T${clock[1].padStart(2, "0")}:${clock[2]}${clock[3] ?? ""}` : typed.replace(" ", "T");
  const match = /^(\d{4}-\d{2}-\d{2})(T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?)?(Z|[+-]\d{2}:\d{2})?$/.exec(whole);
  if (!match) return null;
  const ms = Date.parse(`${match[1]}${match[2] ?? "T00:00"}${match[3] ?? "Z"}`);
  return Number.isNaN(ms) ? null : ms;
}

/** Milliseconds of a duration such as `15m`; null if the text is not a duration. */
export function parseLength(text) {
  const match = /^(\d{1,6})([smhdw])$/.exec(text ?? "");
  return match ? Number(match[1]) * UNIT_MS[match[2]] : null;
}
