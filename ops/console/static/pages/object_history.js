/** The pages of objects that show mainly changes: reservations, coordinators, and applications with automatic pools. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { addressHref } from "../links.js";
import { hrefOf } from "../location.js";
import { parseAddress } from "../numbers.js";
import { facts } from "../parts/facts.js";
import { changes } from "../parts/history_table.js";

export const reservation = {
  title: ({ path }) => `Reservation ${path[1]}`,
  isSteady: true,
  load: ({ path: [, name], at }, signal) => read(["reservations", name, "timeline"], { at }, signal),
  view(history, state) {
    const last = history.entries.at(-1);
    const items = last && last.kind !== "deleted" ? last.text.split(", ").filter((text) => parseAddress(text)) : [];
    return [
      element("section", {}, element("h2", {}, "Changes"), changes(history, state)),
      items.length > 0 ? element("p", {}, "Addresses: ", items.map((text, index) => [index > 0 ? ", " : "", link(addressHref(text), text)])) : null,
    ];
  },
};

export const coordinator = {
  title: ({ path }) => `Coordinator ${path[1]}`,
  isSteady: true,
  async load({ path: [, name], at }, signal) {
    const [{ items }, history] = await Promise.all([
      read(["coordinators"], { at }, signal), read(["coordinators", name, "timeline"], { at }, signal),
    ]);
    return { at: history.at, history, present: items.find((item) => item.name === name) ?? null };
  },
  view: ({ history, present }, state) => [
    element("section", {}, element("h2", {}, "Settings and status"), present ? coordinatorFacts(present)
      : element("p", { class: "verdict" }, "It does not exist at this instant.")),
    element("section", {}, element("h2", {}, "Changes"), changes(history, state)),
  ],
};

/** The settings of a coordinator, and the CIDRs of its status. */
function coordinatorFacts({ phase, reason, settings, overlayPodCIDR, serviceCIDR }) {
  return facts([
    ["Phase", phase || "not reported yet"], ["Reason", reason], ["Pod CIDRs", overlayPodCIDR.join(", ")], ["Service CIDRs", serviceCIDR.join(", ")],
    ...Object.entries(settings),
  ]);
}

export const application = {
  title: ({ path }) => `Application ${path[1]}/${path[2]}`,
  isSteady: true,
  load: ({ path: [, namespace, name], at }, signal) => read(["applications", namespace, name, "timeline"], { at }, signal),
  view: (history, { path: [, namespace, name], ...state }) => [
    element("section", {}, element("h2", {}, "Changes of its size and its pools"),
      changes(history, { path: ["applications", namespace, name], ...state })),
    element("p", {}, link(hrefOf(["search"], { q: `${namespace}/${name}` }), "Its Pods, pools and workflows"), " · ",
      link(hrefOf(["addresses"], { namespace }), "addresses of its namespace")),
  ],
};
