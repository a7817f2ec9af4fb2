/** Addresses that are allocated or in cool-down (`resting`), filtered by state, pool, namespace or node. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { hrefHere } from "../location.js";
import { plural } from "../numbers.js";
import { distanceText, instantText, msOf } from "../time_text.js";
import { addressColumn, nameColumn, podColumn, timeColumn } from "../parts/columns.js";
import { filters } from "../parts/filters.js";
import { table } from "../parts/table.js";
import { stateClass, stateOf } from "../states.js";

const FIELDS = ["state", "pool", "namespace", "node"];
const PAGE = 200;

export const addresses = {
  title: () => "Addresses",
  controls: (state) => filters(state, [
    { name: "state", label: "State", options: ["allocated", "resting"] },
    { name: "pool", label: "Pool" }, { name: "namespace", label: "Namespace" }, { name: "node", label: "Node" },
  ]),
  load({ query, at }, signal) {
    const chosen = Object.fromEntries(FIELDS.map((name) => [name, query[name]]));
    return read(["addresses"], { ...chosen, at, cursor: query.cursor, limit: PAGE }, signal);
  },
  view: (data, state) => [addressTable(data.items, state, data.at), pages(data, state)],
};

/** A table of addresses that are allocated or in cool-down, on this page and on the page of a node. */
export function addressTable(items, state, at) {
  const nowMs = msOf(at.time) ?? 0;
  return table({
    caption: "Addresses", rows: items, state, sort: "sort", empty: "No address matches at this instant.",
    columns: [
      addressColumn(),
      { key: "state", title: "State", value: (row) => row.state, cell: (row) => [
        element("span", { class: `swatch ${stateClass(row.state)}`, "aria-hidden": "true" }, stateOf(row.state).letter), " ", row.state] },
      podColumn(), nameColumn("node", "Node"), nameColumn("pool", "Pool"),
      timeColumn("since", "Since", ({ since }) => since?.time),
      { key: "until", title: "Cool-down until", value: ({ until }) => until, cell: ({ until }) => coolDownText(until, nowMs) },
    ],
  });
}

function coolDownText(until, nowMs) {
  return until ? `${instantText(until)} (${distanceText(msOf(until), nowMs)})` : "-";
}

function pages({ items, total, cursor }, state) {
  return element("p", { class: "pages-of-list" },
    total === undefined ? "" : `${plural(total, "address", "addresses")}${items.length < total ? `, ${items.length} shown` : ""}. `,
    state.query.cursor ? link(hrefHere({ cursor: "" }, state), "first page") : null, " ",
    cursor ? link(hrefHere({ cursor }, state), "next page", { "data-key": "next" }) : null);
}
