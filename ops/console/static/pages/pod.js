/** A Pod: its interfaces, addresses and routes, why it has these or none, and what it held before. */

import { ApiError, read, readIfAny } from "../api.js";
import { element, link } from "../dom.js";
import { addressHref, subjectHref, traceHref } from "../links.js";
import { hrefOf } from "../location.js";
import { facts } from "../parts/facts.js";
import { holdings, instantLink } from "../parts/history_table.js";
import { sentence } from "../sentences.js";
import { refusalList, refusalsOf } from "./refusals.js";

const EVENTS = 50; // the newest of the Pod, for the refusals among them

export const pod = {
  title: ({ path }) => `Pod ${path[1]}/${path[2]}`,
  async load({ path: [, namespace, name], at }, signal) {
    const newest = { pod: `${namespace}/${name}`, at, limit: EVENTS };
    const [answer, history, events] = await Promise.all([
      readIfAny(["pods", namespace, name], { at }, signal), readIfAny(["pods", namespace, name, "timeline"], { at }, signal),
      read(["events"], newest, signal),
    ]);
    const refusals = refusalsOf(events.items);
    if (answer === null && refusals.length === 0) throw unknown(namespace, name);
    return { at: events.at, pod: answer?.pod ?? null, history, refusals };
  },
  view({ pod: data, refusals, history }, state) {
    const [, namespace, name] = state.path;
    return [
      data ? present(data, state) : element("p", { class: "verdict" }, "It holds no address at this instant."),
      refusals.length > 0 ? element("section", {}, element("h2", {}, "Refusals"), refusalList(refusals, state)) : null,
      history ? element("section", {}, element("h2", {}, "History"), holdings(history, state, "pod")) : null,
      element("p", {}, link(hrefOf(["events"], { pod: `${namespace}/${name}` }), "Events about this Pod"), " · ",
        link(hrefOf(["workflows"], { id: `reclaim/${namespace}/${name}` }), "its reclaim workflows")),
    ];
  },
};

function unknown(namespace, name) {
  return new ApiError(404, {
    message: `the log has no event about Pod ${namespace}/${name}`,
    remedy: "Check namespace and name, or search for a part of the name. A Pod that the scheduler has not placed yet, or that uses the"
      + " host's network, never requests an address: see kubectl describe pod",
  });
}

function present(data, state) {
  const { owner } = data;
  return [
    element("section", { class: "lead" }, facts([
      ["Node", data.node ? link(subjectHref(`node/${data.node}`), data.node) : ""],
      ["Owner", owner?.kind ? `${owner.kind} ${owner.name}` : ""], ["UID", data.uid], ["Holder", data.holder],
      ["Claimed", data.claimed ? instantLink(state.path, data.claimed) : ""], ["By", data.claimed?.actor],
      ["Trace of the ADD", data.traceId ? link(traceHref(data.traceId), data.traceId, { class: "code" }) : "not traced"],
    ])),
    element("section", {}, element("h2", {}, "Interfaces"), data.interfaces.map(interfaceCard)),
    data.why.length > 0 ? why(data.why) : null,
  ];
}

function interfaceCard(nic) {
  return element("section", { class: "card" },
    element("h3", {}, nic.name || "an interface without a name yet"),
    element("ul", { class: "plain" }, nic.addresses.map(({ address, pool, gateway }) => element("li", {},
      link(addressHref(address), address, { class: "code strong" }), " of ", link(subjectHref(`pool/${pool}`), pool),
      gateway ? ` · gateway ${gateway}` : ""))),
    facts([
      ["Routes", nic.routes.length > 0 ? nic.routes.map(routeLine) : "none of its own"],
      ["MAC", nic.mac], ["VLAN", nic.vlan || ""], ["Network", nic.network], ["Container", nic.container],
      ["Gateway", nic.cleanGateway ? "no default route through this interface" : ""],
    ]));
}

function routeLine({ to, via }) {
  return element("span", { class: "code line" }, `${to} via ${via}`);
}

function why(sentences) {
  return element("section", {}, element("h2", {}, "Why these addresses"),
    element("ol", { class: "why" }, sentences.map((text) => element("li", {}, sentence(text)))));
}
