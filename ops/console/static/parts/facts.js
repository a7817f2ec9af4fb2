/** A list of titles with values, as on the page of a Pod. */

import { element } from "../dom.js";

/** `pairs` of a title and a text or a node; pairs without a value are left out. */
export function facts(pairs) {
  const present = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== "-");
  return element("dl", { class: "facts" },
    present.map(([title, value]) => element("div", {}, element("dt", {}, title), element("dd", {}, value))));
}
