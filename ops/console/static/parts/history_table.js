/** Shows the entries of a timeline of the API as a drawing and as a table. */

import { element, link } from "../dom.js";
import { positionHref, traceHref } from "../links.js";
import { durationText, instantText, msOf } from "../time_text.js";
import { addressColumn, nameColumn, podColumn, textColumn, timeColumn } from "./columns.js";
import { table } from "./table.js";
import { timeline } from "./timeline.js";

const UID_CHARACTERS = 8; // of a UID in a bar
const TRACE_CHARACTERS = 8; // of a trace id in a table; its title has all of it

/** Claims and quarantines of addresses. `answer`: a Timeline; `by`: "address" or "pod", the subject of the page. */
export function holdings(answer, state, by) {
  const entries = answer.entries.filter(({ kind }) => kind === "held" || kind === "quarantined");
  const endMs = msOf(answer.at.time);
  return [
    timeline(lanesOf(entries, by), endMs, `Timeline of ${answer.subject.name}; the table has the same entries`),
    table({
      caption: `History of ${answer.subject.name}`,
      columns: columnsOf(by, endMs),
      rows: [...entries].reverse(),
      state,
      sort: "sort",
      empty: by === "address" ? "No Pod has held it up to this instant." : "It has held no address up to this instant.",
    }),
    bindings(answer, state),
    answer.dropped > 0 ? element("p", { class: "hint" }, `${answer.dropped} older entries are left out; orbctl history shows all.`) : null,
  ];
}

/** The changes of addresses at a network provider; null if there are none. */
function bindings({ entries, subject }, state) {
  const rows = entries.filter(({ kind }) => kind === "binding").reverse();
  if (rows.length === 0) return null;
  return table({
    caption: `Network provider of ${subject.name}`, rows, state,
    columns: [
      { key: "when", title: "When", cell: (entry) => instantLink(state.path, entry.began) },
      { key: "addresses", title: "Addresses", cell: ({ subject: addresses }) => addresses },
      { key: "what", title: "What", cell: ({ text }) => text, class: "wide" },
      { key: "by", title: "By", cell: ({ began }) => began.actor, class: "folded" },
    ],
  });
}

/** A table of the changes of a definition: when, what, by whom. */
export function changes(answer, state) {
  return table({
    caption: `Changes of ${answer.subject.name}`,
    columns: [
      { key: "when", title: "When", cell: (entry) => instantLink(state.path, entry.began) },
      { key: "what", title: "What", cell: ({ kind }) => kind },
      { key: "by", title: "By", cell: ({ began }) => began.actor },
      { key: "detail", title: "Detail", cell: ({ text }) => text || "-", class: "wide" },
    ],
    rows: [...answer.entries].reverse(),
    state,
    empty: "The log has no change up to this instant.",
  });
}

/** A time with a link to this page as of that event. */
export function instantLink(path, stamp) {
  return stamp ? link(positionHref(path, stamp.position), instantText(stamp.time), { title: "Show this page as of then" }) : "now";
}

/** A shortened trace id with a link to its events; "-" for none. */
export function traceLink(traceId) {
  return traceId ? link(traceHref(traceId), `${traceId.slice(0, TRACE_CHARACTERS)}…`, { title: traceId, class: "code" }) : "-";
}

function lanesOf(entries, by) {
  const lanes = new Map();
  for (const entry of entries) {
    const name = by === "address" ? "" : entry.subject;
    if (!lanes.has(name)) lanes.set(name, { name, bars: [] });
    lanes.get(name).bars.push({
      fromMs: msOf(entry.began.time), toMs: msOf(entry.ended?.time), kind: entry.kind,
      label: entry.kind === "quarantined" ? "quarantine" : labelOf(entry, by),
    });
  }
  return [...lanes.values()];
}

function labelOf({ namespace, pod, uid }, by) {
  return by === "address" ? `${namespace}/${pod}` : uid.slice(0, UID_CHARACTERS) || pod;
}

function actors({ began, ended }) {
  return ended && ended.actor !== began.actor ? `${began.actor} → ${ended.actor}` : began.actor;
}

function columnsOf(by, endMs) {
  const lastedMs = ({ began, ended }) => (ended ? msOf(ended.time) : endMs) - msOf(began.time);
  const holder = podColumn("Held by");
  return [
    by === "pod" ? addressColumn("Address", ({ subject }) => subject)
      : { ...holder, cell: (entry) => (entry.kind === "held" ? holder.cell(entry) : "quarantine") },
    timeColumn("from", "From", ({ began }) => began.time), timeColumn("to", "To", ({ ended }) => ended?.time),
    { key: "lasted", title: "Lasted", value: lastedMs, cell: (entry) => durationText(lastedMs(entry)) },
    nameColumn("node", "Node"), nameColumn("pool", "Pool"),
    textColumn("why", "Why", ({ reason, evidence }) => [reason, evidence].filter(Boolean).join(": "), { class: "wide", value: null }),
    textColumn("by", "By", actors, { class: "folded" }),
    { key: "trace", title: "Trace", cell: ({ began }) => traceLink(began.traceId) },
  ];
}
