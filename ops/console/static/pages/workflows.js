/** Workflow executions at an instant: list and filters. Those of the past are computed from their histories. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { hrefHere, hrefOf } from "../location.js";
import { countText } from "../numbers.js";
import { capital, sentence } from "../sentences.js";
import { durationText, msOf } from "../time_text.js";
import { countColumn, textColumn, timeColumn } from "../parts/columns.js";
import { filters } from "../parts/filters.js";
import { table } from "../parts/table.js";

const STATUSES = ["Running", "Paused", "Completed", "Failed", "Canceled", "Terminated", "TimedOut", "ContinuedAsNew"];
const TYPES = [
  "reclaim-pod", "reclaim-scan", "auto-pools", "pool-retirement", "subnet-retirement", "quarantine-probe", "ExternalBinding", "archive-log",
  "archive-prune", "sriov-drains", "orbweaver-scheduler",
];
const FIELDS = ["status", "type", "id"];
const PAGE = 100;

export const workflows = {
  title: () => "Workflows",
  controls: (state) => filters(state, [
    { name: "status", label: "Status", options: STATUSES }, { name: "type", label: "Type", options: TYPES },
    { name: "id", label: "ID begins with", hint: "reclaim/shop/" },
  ]),
  load({ query, at }, signal) {
    const chosen = Object.fromEntries(FIELDS.map((name) => [name, query[name]]));
    return read(["workflows"], { ...chosen, at, cursor: query.cursor, limit: PAGE }, signal);
  },
  view: ({ at, items, cursor, total, statuses = {}, missing = [] }, state) => [
    missing.length > 0 ? element("p", { class: "notice" }, missing.map((text) => `${capital(sentence(text))} `)) : null,
    element("p", { class: "chips", role: "group", "aria-label": "Status" }, Object.entries(statuses).map(([status, count]) =>
      link(hrefHere({ status, cursor: "" }, state), `${status} ${countText(count)}`, { "data-key": `status-${status}` }))),
    table({
      caption: "Workflow executions", rows: items, state, sort: "sort", empty: "No execution matches.",
      columns: [
        { key: "id", title: "ID", class: "wide", value: ({ id }) => id, cell: ({ id, run }) => link(hrefOf(["workflows", id], { run }), id) },
        textColumn("type", "Type"), { ...textColumn("status", "Status"), cell: ({ status }) => statusTag(status) },
        timeColumn("started", "Started"),
        textColumn("lasted", "Lasted", (item) => durationText((msOf(item.closed) ?? msOf(at.time)) - msOf(item.started)), { value: null }),
        countColumn("events", "Events"), textColumn("waitsFor", "Waits for", ({ waitsFor }) => waitsFor, { class: "folded" }),
      ],
    }),
    element("p", { class: "pages-of-list" }, total === undefined ? "" : `${countText(total)} in all. `,
      state.query.cursor ? link(hrefHere({ cursor: "" }, state), "first page") : null, " ",
      cursor ? link(hrefHere({ cursor }, state), "next page", { "data-key": "next" }) : null),
  ],
};

/** A status as a word with a colour. */
export function statusTag(status) {
  return element("span", { class: `tag status-${status.toLowerCase()}` }, status);
}
