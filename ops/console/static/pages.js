/** The pages of the console by the first part of their path. */

import { address } from "./pages/address.js";
import { addresses } from "./pages/addresses.js";
import { events } from "./pages/events.js";
import { node } from "./pages/node.js";
import { application, coordinator, reservation } from "./pages/object_history.js";
import { overview } from "./pages/overview.js";
import { pod } from "./pages/pod.js";
import { pool } from "./pages/pool.js";
import { refusals } from "./pages/refusals.js";
import { search } from "./pages/search.js";
import { subnet } from "./pages/subnet.js";
import { workflow } from "./pages/workflow.js";
import { workflows } from "./pages/workflows.js";

/**
 * A page is an object with
 * `title(state)`: its heading;
 * `load(state, signal)`: its data, read from the API;
 * `view(data, state, signal)`: its content, a node or a list; `signal` stops the requests that it makes;
 * `controls(state)`, optional: filters, which are kept when the content is read again;
 * `isLiveItself`, optional: the page follows the log itself and is not read again;
 * `isSteady`, optional: it is not read again while it is open, because it searches the whole log.
 */
const PAGES = {
  "": () => overview,
  applications: () => application,
  addresses: (path) => (path.length > 1 ? address : addresses),
  coordinators: () => coordinator,
  events: () => events,
  nodes: () => node,
  pods: () => pod,
  pools: () => pool,
  refusals: () => refusals,
  reservations: () => reservation,
  search: () => search,
  subnets: () => subnet,
  workflows: (path) => (path.length > 1 ? workflow : workflows),
};

/** How many names a path needs after the name of its page. */
const NAMES_OF = { applications: 2, coordinators: 1, nodes: 1, pods: 2, pools: 1, reservations: 1, subnets: 1 };

/** The page of a state; null if no page has this path. */
export function pageOf({ path }) {
  const [name = ""] = path;
  if (!Object.hasOwn(PAGES, name) || path.length <= (NAMES_OF[name] ?? 0)) {
    return name === "" ? overview : null;
  }
  return PAGES[name](path);
}
