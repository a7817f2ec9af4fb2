/** A node: the addresses that its Pods hold and held, and the last events of its agent. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { subjectHref } from "../links.js";
import { hrefOf } from "../location.js";
import { plural } from "../numbers.js";
import { instantText } from "../time_text.js";
import { addressColumn, nameColumn, podColumn, timeColumn } from "../parts/columns.js";
import { table } from "../parts/table.js";
import { addressTable } from "./addresses.js";
import { eventTable } from "./events.js";

const ADDRESSES = 200;
const RELEASED = 50;
const EVENTS = 20;
const DEFAULT_COORDINATOR = "default"; // the name that an agent uses if its variable names no other

export const node = {
  title: ({ path }) => `Node ${path[1]}`,
  async load({ path: [, name], at }, signal) {
    const [addresses, released, events, coordinators] = await Promise.all([
      read(["addresses"], { node: name, at, limit: ADDRESSES }, signal),
      read(["nodes", name, "released"], { at, limit: RELEASED }, signal),
      read(["events"], { node: name, at, limit: EVENTS }, signal),
      read(["coordinators"], { at }, signal),
    ]);
    return { at: addresses.at, addresses, released, events, coordinators };
  },
  view({ at, addresses, released, events, coordinators }, state) {
    const [, name] = state.path;
    return [
      element("section", {}, element("h2", {}, "Addresses"), addressTable(addresses.items, state, at),
        addresses.total > 0 ? element("p", {}, link(hrefOf(["addresses"], { node: name }), `all ${plural(addresses.total, "address", "addresses")}`)) : null),
      element("section", {}, element("h2", {}, "Held before"), releasedTable(released.items, state),
        released.truncated ? element("p", { class: "hint" }, `The last ${RELEASED}; orbctl history has all.`) : null),
      element("section", {}, element("h2", {}, "Settings of its coordinator"), coordinatorSource(coordinators.items)),
      element("section", {}, element("h2", {}, "Last events of its agent"), eventTable(events.items, state),
        element("p", {}, link(hrefOf(["events"], { node: name }), "all events"), " · ",
          link(hrefOf(["refusals"], { node: name }), "refusals"))),
    ];
  },
};

/** Where the node's coordinator gets its settings from: the object that the agent watches, then the node's own file. */
function coordinatorSource(items) {
  const file = "orbweaver.coordinator in the conf.yml of the node";
  const chosen = items.find(({ name }) => name === DEFAULT_COORDINATOR) ?? items[0];
  if (!chosen) return element("p", {}, `From ${file}. The log has no SpiderCoordinator at this instant.`);
  const others = items.filter((item) => item !== chosen);
  return [
    element("p", {}, "From SpiderCoordinator ", coordinatorLink(chosen),
      ` (${chosen.phase || "no status yet"}), changed last at ${instantText(chosen.since.time)}. Settings that it does not have come from ${file}; `
        + "spec.coordinator of a SpiderMultusConfig overrides both for its network."),
    others.length > 0 ? element("p", { class: "hint" }, "Other SpiderCoordinators: ",
      others.map((item, index) => [index > 0 ? ", " : "", coordinatorLink(item)]),
      ". The agent's variable SPIDERPOOL_COORDINATOR_DEFAULT_NAME names the one that is used.") : null,
  ];
}

function coordinatorLink({ name }) {
  return link(subjectHref(`coordinator/${name}`), name);
}

function releasedTable(items, state) {
  return table({
    caption: "Addresses that its Pods held", rows: items, state, empty: "Its Pods have released no address up to this instant.",
    columns: [
      addressColumn(), podColumn("Was held by"), nameColumn("pool", "Pool"),
      timeColumn("since", "From", ({ since }) => since?.time), timeColumn("until", "Until", ({ until }) => until?.time),
    ],
  });
}
