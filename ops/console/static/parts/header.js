/** The header of every page: name, links to the pages, search. */

import { element, replace, svg } from "../dom.js";
import { hrefOf, navigate } from "../location.js";
import { parseAddress } from "../numbers.js";

const PAGES = [
  ["Overview", [], ""],
  ["Addresses", ["addresses"], "addresses"],
  ["Events", ["events"], "events"],
  ["Refusals", ["refusals"], "refusals"],
  ["Workflows", ["workflows"], "workflows"],
];
/** The entry of `PAGES` that is marked as current on pages that have no entry of their own. */
const ENTRY_OF = { pools: "", subnets: "", nodes: "", reservations: "", coordinators: "", applications: "", pods: "addresses" };

/** Builds the header. `update(state)` marks the current page and puts the instant into the links. */
export function createHeader() {
  const list = element("ul", { class: "pages" });
  const field = element("input", {
    type: "search", name: "q", id: "search", autocomplete: "off", spellcheck: "false", maxlength: 200,
    placeholder: "Address, Pod, node, MAC, trace id …", "aria-label": "Search", "aria-keyshortcuts": "/",
  });
  const form = element("form", { role: "search", on: { submit: (event) => searchFor(event, field) } },
    field, element("button", { type: "submit" }, "Search"));
  replace(document.getElementById("header"),
    element("a", { class: "brand", href: "#/", id: "brand" }, logo(), "Orbweaver"),
    element("nav", { "aria-label": "Pages" }, list), form);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || isTyping(event.target)) return;
    event.preventDefault();
    field.focus();
  });
  return {
    update(state) {
      const current = ENTRY_OF[state.path[0]] ?? state.path[0] ?? "";
      replace(list, PAGES.map(([text, path, name]) => element("li", {},
        element("a", { href: hrefOf(path, {}, state), "aria-current": name === current ? "page" : null }, text))));
      list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" }); // on a narrow screen
      document.getElementById("brand").setAttribute("href", hrefOf([], {}, state));
      if (document.activeElement !== field) field.value = state.path[0] === "search" ? state.query.q ?? "" : "";
    },
  };
}

function searchFor(event, field) {
  event.preventDefault();
  const text = field.value.trim();
  // An address has a page of its own, also if no Pod has ever held it.
  if (parseAddress(text)) navigate(hrefOf(["addresses", text]));
  else if (text) navigate(hrefOf(["search"], { q: text }));
}

function isTyping(target) {
  return target instanceof Element && target.matches("input:not([type=range]), select, textarea");
}

function logo() {
  return svg("svg", { viewBox: "0 0 32 32", width: 26, height: 26, "aria-hidden": "true", class: "logo" },
    svg("path", { d: "M16 2v28M3.9 9l24.2 14M28.1 9L3.9 23" }),
    svg("path", { d: "M16 4l10.4 6v12L16 28 5.6 22V10z" }),
    svg("path", { d: "M16 10l5.2 3v6L16 22l-5.2-3v-6z" }),
    svg("circle", { cx: 16, cy: 16, r: 3 }));
}
