/** A pool: definition, use, forecast, its addresses as a grid, and the changes of its definition. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { hrefHere, hrefOf } from "../location.js";
import { formatAddress, parseAddress, plural, rangeText } from "../numbers.js";
import { instantText, msOf } from "../time_text.js";
import { addressGrid } from "../parts/address_grid.js";
import { addressColumn, nameColumn, podColumn, textColumn } from "../parts/columns.js";
import { forecastText, growthChart } from "../parts/forecast.js";
import { changes } from "../parts/history_table.js";
import { facts } from "../parts/facts.js";
import { STATES } from "../states.js";
import { table } from "../parts/table.js";
import { legend, usageBar, usageText } from "../parts/usage_bar.js";
import { poolNotes } from "./overview.js";

const RANGES_TEXT = "A cell is a range of addresses. Its coloured part and its number are allocated. Open it to see the addresses.";
const RANGES = 256; // cells of a grid that has too many addresses for a cell each
const WIDER = 256n; // the next wider range has this many times the addresses

let cached = null; // {name, answer}: the history of the definition that was read last

export const pool = {
  title: ({ path }) => `Pool ${path[1]}`,
  async load({ path: [, name], query, at }, signal) {
    const range = { at, first: query.first, last: query.last, cells: RANGES };
    const [answer, grid, history] = await Promise.all([
      read(["pools", name], { at }, signal),
      read(["pools", name, "addresses"], range, signal),
      definitionHistory(name, at, signal),
    ]);
    const entries = history.entries.filter(({ began }) => began.position <= answer.at.position);
    return { ...answer, grid, history: { ...history, entries } };
  },
  view({ at, pool: data, grid, history }, state) {
    const nowMs = msOf(at.time);
    return [
      element("section", { class: "lead" }, usageBar(data.counts), element("p", {}, usageText(data.counts), "."),
        element("p", { class: "forecast" }, forecastText(data, nowMs)), growthChart(data.growth)),
      element("section", {}, element("h2", {}, "Addresses"), ranges(data, grid, state), legend(),
        addressGrid(grid, {
          address: (address) => hrefOf(["addresses", address]),
          range: (first, last) => hrefHere({ first, last, state: "" }),
        }),
        grid.mode === "addresses" ? occupied(grid, state) : element("p", { class: "hint" }, RANGES_TEXT)),
      element("section", {}, element("h2", {}, "Definition"), definition(data), changes(history, state)),
    ];
  },
};

/**
 * The changes of the definition. All of them are read and cached, so that moving the slider reads nothing.
 * If the server leaves older entries out, the history is read up to the instant.
 */
async function definitionHistory(name, at, signal) {
  if (at && cached?.name === name) return cached.answer;
  const answer = await read(["pools", name, "timeline"], {}, signal);
  if (at && answer.dropped > 0) return read(["pools", name, "timeline"], { at }, signal);
  cached = { name, answer };
  return answer;
}

/** The range of the grid, with links to the whole pool, a wider range, and the ranges before and after. */
function ranges(data, grid, state) {
  const [first, last, low, high] = [grid.first, grid.last, data.first, data.last].map((text) => parseAddress(text).value);
  const size = last - first + 1n;
  const to = (from, until) => hrefHere({
    first: formatAddress(data.family, from < low ? low : from), last: formatAddress(data.family, until > high ? high : until), state: "",
  }, state);
  const isWhole = first <= low && last >= high;
  const wideFirst = first - (first % (size * WIDER));
  const isLastStep = wideFirst <= low && wideFirst + size * WIDER > high;
  return element("nav", { class: "ranges", "aria-label": "Range of addresses" },
    isWhole ? null : link(hrefHere({ first: "", last: "", state: "" }, state), "whole pool", { "data-key": "whole" }),
    isWhole || isLastStep ? null : link(to(wideFirst, wideFirst + size * WIDER - 1n), "wider range", { "data-key": "wider" }),
    first > low ? link(to(first - size, first - 1n), "‹ before", { "data-key": "before" }) : null,
    element("strong", { class: "code" }, rangeText(grid.first, grid.last)),
    last < high ? link(to(last + 1n, last + size), "after ›", { "data-key": "after" }) : null,
    element("span", { class: "hint" }, plural(size, "address", "addresses")));
}

/** The addresses of the grid that are not free, one row each; `state` of the URL chooses one state. */
function occupied(grid, state) {
  const rows = [
    ...grid.holders.map((row) => ({ ...row, state: "allocated", text: row.since?.time ? `since ${instantText(row.since.time)}` : "" })),
    ...grid.resting.map((row) => ({ ...row, state: "resting", text: row.until ? `until ${instantText(row.until)}` : "" })),
    ...grid.quarantined.map((row) => ({ ...row, state: "quarantined", text: [row.reason, row.evidence].filter(Boolean).join("; ") })),
  ].sort((left, right) => left.offset - right.offset);
  const chosen = state.query.state ?? "";
  const names = STATES.map(({ name }) => name).filter((name) => rows.some((row) => row.state === name));
  return [
    element("p", { class: "chips", role: "group", "aria-label": "State" }, ["", ...names].map((name) =>
      link(hrefHere({ state: name }, state), name || "all", { "aria-current": name === chosen ? "true" : null, "data-key": `state-${name}` }))),
    table({
      caption: "Addresses that are not free", rows: rows.filter((row) => !chosen || row.state === chosen), state, sort: "sort",
      empty: "No address of this range is allocated, resting or in quarantine.",
      columns: [
        addressColumn(), textColumn("state", "State"), podColumn(), nameColumn("node", "Node"),
        textColumn("text", "Since, until, why", ({ text }) => text, { class: "wide" }),
      ],
    }),
  ];
}

function definition(data) {
  return facts([
    ["Subnet", data.subnet], ["IPs", data.ips.join(", ")], ["Excluded", data.excludeIPs.join(", ")], ["Gateway", data.gateway],
    ["Routes", data.routes.map(({ to, via }) => `${to} via ${via}`).join(", ")], ["Nodes", data.nodeNames.join(", ")],
    ["Namespaces", data.namespaceNames.join(", ")], ["Networks", data.multusNames.join(", ")],
    ["Labels", Object.entries(data.labels).map(([key, value]) => `${key}=${value}`).join(", ")], ["Notes", poolNotes(data)],
  ]);
}
