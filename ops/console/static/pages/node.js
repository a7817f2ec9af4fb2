/** A node: the addresses that its Pods hold and held, and the last events of its agent. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { hrefOf } from "../location.js";
import { plural } from "../numbers.js";
import { addressColumn, nameColumn, podColumn, timeColumn } from "../parts/columns.js";
import { table } from "../parts/table.js";
import { addressTable } from "./addresses.js";
import { eventTable } from "./events.js";

const ADDRESSES = 200;
const RELEASED = 50;
const EVENTS = 20;

export const node = {
  title: ({ path }) => `Node ${path[1]}`,
  async load({ path: [, name], at }, signal) {
    const [addresses, released, events] = await Promise.all([
      read(["addresses"], { node: name, at, limit: ADDRESSES }, signal),
      read(["nodes", name, "released"], { at, limit: RELEASED }, signal),
      read(["events"], { node: name, at, limit: EVENTS }, signal),
    ]);
    return { at: addresses.at, addresses, released, events };
  },
  view({ at, addresses, released, events }, state) {
    const [, name] = state.path;
    return [
      element("section", {}, element("h2", {}, "Addresses"), addressTable(addresses.items, state, at),
        addresses.total > 0 ? element("p", {}, link(hrefOf(["addresses"], { node: name }), `all ${plural(addresses.total, "address", "addresses")}`)) : null),
      element("section", {}, element("h2", {}, "Held before"), releasedTable(released.items, state),
        released.truncated ? element("p", { class: "hint" }, `The last ${RELEASED}; orbctl history has all.`) : null),
      element("section", {}, element("h2", {}, "Last events of its agent"), eventTable(events.items, state),
        element("p", {}, link(hrefOf(["events"], { node: name }), "all events"), " · ",
          link(hrefOf(["refusals"], { node: name }), "refusals"))),
    ];
  },
};

function releasedTable(items, state) {
  return table({
    caption: "Addresses that its Pods held", rows: items, state, empty: "Its Pods have released no address up to this instant.",
    columns: [
      addressColumn(), podColumn("Was held by"), nameColumn("pool", "Pool"),
      timeColumn("since", "From", ({ since }) => since?.time), timeColumn("until", "Until", ({ until }) => until?.time),
    ],
  });
}
