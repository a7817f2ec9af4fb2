/** The URLs of the pages that show objects of the log. */

import { hrefOf } from "./location.js";

const NO_APPLICATIONS = new Set(["Service", "EndpointSlice"]);

/** The page of a subject such as `pod/shop/web-0`, `address/10.6.0.17`, `pool/lan`; null if it has none. */
export function subjectHref(subject) {
  const [kind, ...names] = subject.split("/");
  switch (kind) {
    case "address": return hrefOf(["addresses", names.join("/")]);
    case "pod": return names.length === 2 ? hrefOf(["pods", ...names]) : null;
    case "pool": return hrefOf(["pools", names.join("/")]);
    case "subnet": return hrefOf(["subnets", names.join("/")]);
    case "reservation": return hrefOf(["reservations", names.join("/")]);
    case "coordinator": return hrefOf(["coordinators", names.join("/")]);
    case "application": return names.length === 2 ? hrefOf(["applications", ...names]) : null;
    case "record": return recordHref(names);
    case "node": return hrefOf(["nodes", names.join("/")]);
    case "namespace": return hrefOf(["addresses"], { namespace: names.join("/") });
    case "workflow": return hrefOf(["workflows", names.join("/")]);
    default: return null;
  }
}

/** The page of a record: a Pod, a node, an application, or a SpiderCoordinator. */
function recordHref([kind, ...names]) {
  if (kind === "SpiderCoordinator") return subjectHref(`coordinator/${names.join("/")}`);
  if (kind === "Pod" || kind === "Node") return subjectHref([kind.toLowerCase(), ...names].join("/"));
  return names.length === 2 && !NO_APPLICATIONS.has(kind) ? hrefOf(["applications", ...names]) : null;
}

/** The page of an address, without its prefix length. */
export function addressHref(address) {
  return hrefOf(["addresses", address.split("/")[0]]);
}

/** The page of a Pod; null for an address that no Pod holds. */
export function podHref(namespace, name) {
  return namespace && name ? hrefOf(["pods", namespace, name]) : null;
}

/** The search page for a trace id: its events and their objects. */
export function traceHref(traceId) {
  return traceId ? hrefOf(["search"], { q: traceId }) : null;
}

/** A page as of the log position of an event, this event included. */
export function positionHref(path, position) {
  return hrefOf(path, { at: String(position) });
}
