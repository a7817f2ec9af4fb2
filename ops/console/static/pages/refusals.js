/** Requests that got no addresses: which Pod, when, and the verdict on each candidate pool. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { subjectHref } from "../links.js";
import { hrefHere } from "../location.js";
import { plural } from "../numbers.js";
import { filters } from "../parts/filters.js";
import { instantLink, traceLink } from "../parts/history_table.js";
import { capital, emptyNotice, sentence } from "../parts/notice.js";

const KIND = "allocation-refused";
const FIELDS = ["namespace", "pod", "pool", "node"];
const PAGE = 100;

export const refusals = {
  title: () => "Refusals",
  controls: (state) => filters(state, [
    { name: "namespace", label: "Namespace" }, { name: "pod", label: "Pod", hint: "namespace/name" },
    { name: "pool", label: "Pool" }, { name: "node", label: "Node" },
  ]),
  load({ query, at }, signal) {
    const chosen = Object.fromEntries(FIELDS.map((name) => [name, query[name]]));
    return read(["events"], { ...chosen, kind: KIND, at, cursor: query.cursor, limit: PAGE }, signal);
  },
  view: ({ items, cursor }, state) => [
    refusalList(items, state),
    cursor ? element("p", {}, link(hrefHere({ cursor }, state), "older", { "data-key": "older" })) : null,
  ],
};

/** The refusals among events. */
export function refusalsOf(items) {
  return items.filter(({ type }) => type === KIND);
}

/** Refusals, the newest first, each with the verdict on every candidate pool. */
export function refusalList(items, state) {
  if (items.length === 0) return emptyNotice("No request was refused up to this instant.");
  return element("ul", { class: "refusals" }, items.map((item) => card(item, state)));
}

function card(item, state) {
  const { interface: nic, message, remedy, source, times = 1, leftOut = 0, verdicts = [] } = item.refusal ?? {};
  return element("li", { class: "card" },
    element("p", {}, instantLink(state.path, item), " ",
      link(subjectHref(item.subject), item.subject.replace(/^pod\//, ""), { class: "strong" }),
      nic ? ` ${nic}` : "", item.node ? [" on ", link(subjectHref(`node/${item.node}`), item.node)] : "",
      times > 1 ? [" ", element("span", { class: "tag" }, plural(times, "time"))] : null, " ", traceLink(item.traceId)),
    element("p", {}, sentence(message ? capital(message) : item.detail)),
    remedy ? element("p", {}, capital(sentence(remedy))) : null,
    source ? element("p", { class: "hint" }, `The pools come from ${source}.`) : null,
    verdicts.length > 0 ? element("ul", { class: "verdicts" }, verdicts.map(verdictItem)) : null,
    leftOut > 0 ? element("p", { class: "hint" }, `${plural(leftOut, "verdict")} more are left out.`) : null);
}

function verdictItem({ interface: nic, family, pool, accepted, rule, detail }) {
  const state = accepted ? "accepted" : "rejected by";
  return element("li", {}, nic ? `${nic}, IPv${family}: ` : "", link(subjectHref(`pool/${pool}`), pool),
    ` ${state} ${accepted ? "" : rule}`, detail ? `: ${detail}` : "");
}
