/** Search: addresses, MAC addresses, trace ids, and parts of the names of Pods, workflows and other objects. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { subjectHref } from "../links.js";
import { hrefOf } from "../location.js";
import { instantText } from "../time_text.js";
import { emptyNotice } from "../parts/notice.js";

const TITLES = {
  address: "Addresses", pod: "Pods", namespace: "Namespaces", application: "Applications", pool: "Pools", subnet: "Subnets",
  reservation: "Reservations", coordinator: "Coordinators", node: "Nodes", workflow: "Workflows", event: "Events",
};
const CHARACTERS_MIN = 2;
const SEARCHED = "an address, a MAC address, a trace id, or a part of a name or of a workflow id";

export const search = {
  title: ({ query }) => (query.q ? `Search: ${query.q}` : "Search"),
  load({ query, at }, signal) {
    const q = (query.q ?? "").trim();
    return q.length < CHARACTERS_MIN ? { at: null, hits: [], isShort: true } : read(["search"], { q, at }, signal);
  },
  view({ hits, truncated, isShort, leftOut }, state) {
    if (isShort) return emptyNotice(`Type at least ${CHARACTERS_MIN} characters: ${SEARCHED}.`);
    if (hits.length === 0) {
      const scope = state.isLive ? "in the log" : "up to this instant";
      return [emptyNotice(`No address, Pod or other object ${scope} has this text.`), unsearched(leftOut), eventLinks(state)];
    }
    const named = hits.filter(({ kind, name }) => kind !== "application" || !name.startsWith("Pod/")); // a Pod without owner is listed among the Pods
    return [
      Object.entries(TITLES).map(([kind, title]) => group(title, named.filter((hit) => hit.kind === kind))),
      truncated ? element("p", { class: "hint" }, "There are more matches. Type more of the name.") : null,
      hits.some(({ kind }) => kind === "event") ? traceLinks(state) : null,
      unsearched(leftOut),
    ];
  },
};

/** Links to the events: only they can be searched by actor, and by traces other than those of claims. */
function eventLinks({ query }) {
  const text = query.q.trim();
  return element("p", {}, "Search the events instead: ", link(hrefOf(["events"], { actor: text }), "by actor"), ", ",
    link(hrefOf(["events"], { trace: text.toLowerCase() }), "by trace id"), ".");
}

function traceLinks({ query }) {
  const trace = query.q.trim().toLowerCase();
  return element("p", {}, link(hrefOf(["events"], { trace }), "All events of this trace"));
}

function unsearched(leftOut) {
  return leftOut ? element("p", { class: "notice" }, `Not searched: ${leftOut}.`) : null;
}

function group(title, hits) {
  if (hits.length === 0) return null;
  return element("section", {}, element("h2", {}, title, element("span", { class: "count" }, hits.length)),
    element("ul", { class: "hits" }, hits.map(hitItem)));
}

function hitItem(hit) {
  const name = hit.kind === "event" ? `position ${hit.name}` : hit.name;
  return element("li", {}, link(hrefOfHit(hit), name), " ",
    element("span", { class: "hint" }, [hit.detail, lastHeld(hit)].filter(Boolean).flat()));
}

function lastHeld(hit) {
  if (hit.held !== false || !hit.last?.time) return null;
  const href = hrefOf(pathOfHit(hit), { at: String(hit.last.position) });
  return [hit.detail ? " · " : "", "last at ", link(href, instantText(hit.last.time))];
}

function hrefOfHit(hit) {
  if (hit.kind === "event") return hrefOf(["events"], { at: hit.name });
  if (hit.kind === "application") return subjectHref(`application/${hit.name.split("/").slice(-2).join("/")}`);
  return subjectHref(`${hit.kind}/${hit.name}`);
}

function pathOfHit({ kind, name }) {
  if (kind === "address") return ["addresses", name];
  if (kind === "pod") return ["pods", ...name.split("/")];
  return kind === "pool" || kind === "subnet" || kind === "reservation" || kind === "coordinator" ? [`${kind}s`, name] : [];
}
