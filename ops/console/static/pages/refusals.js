/** Requests that got no addresses: which Pod, when, and the verdict on each candidate pool. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { subjectHref } from "../links.js";
import { hrefHere } from "../location.js";
import { plural } from "../numbers.js";
import { filters } from "../parts/filters.js";
import { instantLink, traceLink } from "../parts/history_table.js";
import { emptyNotice } from "../parts/notice.js";
import { capital, sentence } from "../sentences.js";

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

/** Refusals with the verdict on every candidate pool. */
export function refusalList(items, state) {
  if (items.length === 0) return emptyNotice("No request was refused up to this instant.");
  return element("ul", { class: "refusals" }, [...grouped(items).values()].map((group) => card(group, state)));
}

/** Groups refusals by Pod and message, newest first: a Pod that waits is refused again and again. */
function grouped(items) {
  const groups = new Map();
  for (const item of items) {
    const key = JSON.stringify([item.subject, item.refusal?.message ?? item.detail]);
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return groups;
}

function card(group, state) {
  const [item] = group;
  const { interface: nic, message, remedy, source, leftOut = 0, verdicts = [] } = item.refusal ?? {};
  const times = group.reduce((sum, { refusal }) => sum + (refusal?.times ?? 1), 0);
  return element("li", { class: "card" },
    element("p", {}, instantLink(state.path, item), " ",
      link(subjectHref(item.subject), item.subject.replace(/^pod\//, ""), { class: "strong" }),
      nic ? ` ${nic}` : "", item.node ? [" on ", link(subjectHref(`node/${item.node}`), item.node)] : "",
      item.traceId ? [" ", traceLink(item.traceId)] : ""),
    times > 1 ? element("p", {}, plural(times, "time"), group.length > 1 ? [", since ", instantLink(state.path, group.at(-1))] : "", ".") : null,
    element("p", {}, sentence(message ? capital(message) : item.detail)),
    remedy ? element("p", {}, capital(sentence(remedy))) : null,
    source ? element("p", { class: "hint" }, `The pools come from ${source}.`) : null,
    verdicts.length > 0 ? element("ul", { class: "verdicts" }, verdicts.map(verdictItem)) : null,
    leftOut > 0 ? element("p", { class: "hint" }, `${plural(leftOut, "further verdict")} left out.`) : null);
}

function verdictItem({ interface: nic, family, pool, accepted, rule, detail }) {
  const verdict = accepted ? "accepted" : `rejected by ${rule}`;
  return element("li", {}, nic ? `${nic}, IPv${family}: ` : "", link(subjectHref(`pool/${pool}`), pool),
    ` ${verdict}`, detail ? `: ${detail}` : "");
}
