/** A node: the addresses of its Pods, and what its agent wrote last. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { hrefOf } from "../location.js";
import { plural } from "../numbers.js";
import { addressTable } from "./addresses.js";
import { eventTable } from "./events.js";

const ADDRESSES = 200;
const EVENTS = 20;

export const node = {
  title: ({ path }) => `Node ${path[1]}`,
  async load({ path: [, name], at }, signal) {
    const [addresses, events] = await Promise.all([
      read(["addresses"], { node: name, at, limit: ADDRESSES }, signal), read(["events"], { node: name, at, limit: EVENTS }, signal),
    ]);
    return { at: addresses.at, addresses, events };
  },
  view({ at, addresses, events }, state) {
    const [, name] = state.path;
    return [
      element("section", {}, element("h2", {}, "Addresses"), addressTable(addresses.items, state, at),
        element("p", {}, link(hrefOf(["addresses"], { node: name }), `all ${plural(addresses.total, "address", "addresses")}`))),
      element("section", {}, element("h2", {}, "Last events"), eventTable(events.items, state),
        element("p", {}, link(hrefOf(["events"], { node: name }), "all events"), " · ",
          link(hrefOf(["events"], { node: name, kind: "addresses-released", since: "1h" }), "released in the last hour"), " · ",
          link(hrefOf(["refusals"], { node: name }), "refusals"))),
    ];
  },
};
