/** An address: its state at the instant, and who held it. */

import { read, readIfAny } from "../api.js";
import { element, link } from "../dom.js";
import { podHref, subjectHref } from "../links.js";
import { hrefOf } from "../location.js";
import { instantText } from "../time_text.js";
import { facts } from "../parts/facts.js";
import { holdings } from "../parts/history_table.js";
import { emptyNotice } from "../parts/notice.js";
import { stateClass, stateOf } from "../states.js";

export const address = {
  title: ({ path }) => `Address ${path[1]}`,
  async load({ path: [, name], at }, signal) {
    const [now, history] = await Promise.all([
      read(["addresses", name], { at }, signal), readIfAny(["addresses", name, "timeline"], { at }, signal),
    ]);
    return { at: now.at, now, history };
  },
  view({ at, now, history }, state) {
    return [
      element("section", { class: "lead" }, summary(at, now, state), details(now)),
      element("section", {}, element("h2", {}, "History"),
        history ? holdings(history, state, "address") : emptyNotice("The log has no event about this address.")),
      element("p", {}, link(hrefOf(["events"], { address: state.path[1] }), "Events about this address")),
    ];
  },
};

function summary(at, now, state) {
  const { letter, text } = stateOf(now.state);
  const when = state.isLive ? "Now" : `At ${instantText(/^\d+$/.test(state.at) ? at.time : state.at)}`;
  const { namespace, pod } = now.holding ?? {};
  return element("p", { class: "verdict" },
    element("span", { class: `swatch ${stateClass(now.state)}`, "aria-hidden": "true" }, letter), " ",
    `${when}: `, element("strong", {}, now.state),
    now.state === "allocated" && pod ? [" to ", link(podHref(namespace, pod), `${namespace}/${pod}`)] : `; ${text}`, ".");
}

function details({ state, holding, pools, quarantine, reservation }) {
  const { namespace, pod, node, interface: nic, mac, since, until } = holding ?? {};
  const isResting = state === "resting";
  return facts([
    ["Released by", isResting && pod ? link(podHref(namespace, pod), `${namespace}/${pod}`) : ""],
    ["Node", node ? link(subjectHref(`node/${node}`), node) : ""], ["Interface", nic], ["MAC", mac],
    [isResting ? "Released" : "Since", since?.time ? instantText(since.time) : ""], ["Cool-down until", until ? instantText(until) : ""],
    ["Pool", pools.length > 0 ? pools.map((name, index) => [index > 0 ? ", " : "", link(subjectHref(`pool/${name}`), name)]) : "no pool contains it"],
    ["Quarantine", quarantine], ["Reservation", reservation ? link(subjectHref(`reservation/${reservation}`), reservation) : ""],
  ]);
}
