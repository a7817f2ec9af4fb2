/**
 * The state of the console: page, instant and filters. It is stored in the hash of the URL only.
 *
 * Example: `#/pools/lan?at=2026-03-01T14:03:00Z&first=10.6.4.0`. A copied URL shows the same page. A
 * hash needs no routes in the server or in a reverse proxy.
 */

/** Query parameters of every page; links to other pages keep them. */
const GLOBAL = ["at", "span"];

/**
 * The state that the hash describes: `{path, query, at, isLive}`. `at` is a time (RFC 3339), a position
 * of the log (digits), or "" for the present.
 */
export function readLocation(hash = window.location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parameters = Object.fromEntries(new URLSearchParams(query));
  const at = parameters.at ?? "";
  return { path: path.split("/").filter(Boolean).map(decoded), query: parameters, at, isLive: at === "" };
}

/** The hash of a page. `query` has the filters of that page; the instant is kept. */
export function hrefOf(path, query = {}, current = readLocation()) {
  const parameters = new URLSearchParams();
  for (const name of GLOBAL) if (current.query[name]) parameters.set(name, current.query[name]);
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") parameters.delete(name);
    else parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** The hash of this page with some parameters changed; "" removes a parameter. */
export function hrefHere(changes, current = readLocation()) {
  return hrefOf(current.path, { ...current.query, ...changes }, current);
}

/** Shows another state. `replaced`: without an entry in the browser history, as while the slider moves. */
export function navigate(href, { replaced = false } = {}) {
  if (href === window.location.hash) return;
  if (replaced) window.history.replaceState(null, "", href);
  else window.history.pushState(null, "", href);
  window.dispatchEvent(new Event("locationchange"));
}

/** Shows this page at an instant: a time or a position as in the URL, "" for the present. */
export function showInstant(at, options) {
  navigate(hrefHere({ at }), options);
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a percent sign without a valid code after it
  }
}
