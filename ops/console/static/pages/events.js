/** The events of the log, newest first, with filters. New events appear as they are written. */

import { read } from "../api.js";
import { element, link, replace } from "../dom.js";
import { followEvents } from "../event_stream.js";
import { subjectHref } from "../links.js";
import { hrefHere, readLocation } from "../location.js";
import { apiTime, msOf, parseLength } from "../time_text.js";
import { filters } from "../parts/filters.js";
import { instantLink, traceLink } from "../parts/history_table.js";
import { table } from "../parts/table.js";

const KINDS = [
  "addresses-claimed", "addresses-released", "allocation-refused", "endpoint-changed", "address-quarantined", "quarantine-lifted",
  "pool-defined", "pool-retired", "pool-deleted", "subnet-defined", "subnet-retired", "subnet-deleted",
  "reservation-defined", "reservation-deleted", "record-defined", "record-deleted", "application-scaled", "binding-changed",
  "guids-assigned", "guids-released",
];
const SINCE = [["10m", "10 minutes"], ["1h", "1 hour"], ["24h", "24 hours"], ["7d", "7 days"]];
const FIELDS = ["kind", "pool", "namespace", "pod", "node", "address", "actor", "trace"];
const PAGE = 100;
const ROWS_MAX = 500; // on a page that follows the log
const DRAW_MS = 250; // bursts are drawn together

export const events = {
  title: () => "Events",
  isLiveItself: true,
  controls: (state) => filters(state, [
    { name: "kind", label: "Type", options: KINDS }, { name: "since", label: "In the last", options: SINCE },
    { name: "pool", label: "Pool" }, { name: "namespace", label: "Namespace" }, { name: "pod", label: "Pod", hint: "namespace/name" },
    { name: "node", label: "Node" }, { name: "address", label: "Address" }, { name: "actor", label: "Actor" },
    { name: "trace", label: "Trace id" },
  ]),
  async load({ query, at }, signal) {
    const since = await beginOf(query.since, at, signal);
    return read(["events"], { ...chosen(query), since, at, cursor: query.cursor, limit: PAGE }, signal);
  },
  view(data, state, signal) {
    const isFollowing = state.isLive && !state.query.cursor;
    const frame = element("div", {}, eventTable(data.items, state));
    const status = element("p", { class: "hint", "aria-live": "polite" });
    if (isFollowing) follow(data, state, signal, frame, status);
    return [status, frame, pages(data, state)];
  },
};

/** A table of events, the newest first. */
export function eventTable(items, state) {
  return table({
    caption: "Events", rows: items, state, empty: "No event matches up to this instant.",
    columns: [
      { key: "time", title: "Time", class: "moment", cell: (event) => instantLink(state.path, event) },
      { key: "type", title: "Type", cell: ({ type }) => element("span", { class: `event-type event-${type.split("-").at(-1)}` }, type) },
      { key: "subject", title: "Subject", class: "folded", cell: ({ subject }) => link(subjectHref(subject), subject) },
      { key: "detail", title: "Detail", class: "wide", cell: ({ detail }) => detail || "-" },
      { key: "by", title: "By", class: "folded", cell: ({ actor, writer }) => element("span", { title: `written by ${writer}` }, actor) },
      { key: "trace", title: "Trace", cell: ({ traceId }) => traceLink(traceId) },
    ],
  });
}

/** The instant of the page minus a duration; "" without a duration. */
async function beginOf(length, at, signal) {
  const lengthMs = parseLength(length);
  if (lengthMs === null) return "";
  const { at: instant } = await read(["events"], { at, limit: 1 }, signal); // the clock of the log, not of this machine
  return apiTime((msOf(instant.time) ?? 0) - lengthMs);
}

function follow(data, state, signal, frame, status) {
  let items = data.items;
  let isWaiting = false;
  const draw = () => {
    isWaiting = false;
    if (!signal.aborted) replace(frame, eventTable(items, readLocation()));
  };
  const query = { ...chosen(state.query), after: data.at.position };
  followEvents(query, signal, (type, event) => {
    if (type === "gap") window.dispatchEvent(new Event("locationchange")); // the list is read again
    if (type !== "log") return;
    items = [event, ...items].slice(0, ROWS_MAX);
    if (!isWaiting) setTimeout(draw, DRAW_MS);
    isWaiting = true;
  }, (isConnected) => {
    status.textContent = isConnected ? "New events appear here as they are written." : "The connection is lost; new events appear when it is back.";
  }).catch((error) => { status.textContent = `New events do not appear: ${error.message}`; });
}

function pages({ cursor, examined }, state) {
  return element("p", { class: "pages-of-list" },
    state.query.cursor ? link(hrefHere({ cursor: "" }, state), "newest") : null, " ",
    cursor ? link(hrefHere({ cursor }, state), "older", { "data-key": "older" }) : null,
    examined && cursor ? element("span", { class: "hint" }, ` ${examined} events were examined for this page.`) : null);
}

function chosen(query) {
  return Object.fromEntries(FIELDS.map((name) => [name, query[name]]));
}
