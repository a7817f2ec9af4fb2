/** A table with a caption and sortable headings. */

import { element } from "../dom.js";
import { hrefHere } from "../location.js";

/**
 * `columns`: `{key, title, cell(row), value?(row), class?}`; a column with `value` can be sorted.
 * `sort`: the URL parameter with the order, `key` or `-key`; without it the table cannot be sorted.
 */
export function table({ caption, columns, rows, state, sort, empty = "None." }) {
  if (rows.length === 0) return element("p", { class: "notice notice-empty" }, empty);
  const order = sort ? state.query[sort] ?? "" : "";
  const sorted = sortedRows(rows, columns, order);
  return element("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": caption },
    element("table", {},
      element("caption", { class: "unseen" }, caption),
      element("thead", {}, element("tr", {}, columns.map((column) => heading(column, order, sort)))),
      element("tbody", {}, sorted.map((row) => element("tr", {},
        columns.map((column) => element("td", { class: column.class, "data-title": column.title }, column.cell(row))))))));
}

function heading(column, order, sort) {
  const { key, title } = column;
  if (!sort || !column.value) return element("th", { scope: "col", class: column.class }, title);
  const isDown = order === `-${key}`;
  const isUp = order === key;
  const direction = isUp ? "ascending" : isDown ? "descending" : null;
  const next = isUp ? `-${key}` : isDown ? "" : key;
  return element("th", { scope: "col", class: column.class, "aria-sort": direction },
    element("a", { href: hrefHere({ [sort]: next }), "data-key": `sort-${sort}-${key}` },
      title, element("span", { "aria-hidden": "true", class: "arrow" }, isUp ? " ▲" : isDown ? " ▼" : "")));
}

function sortedRows(rows, columns, order) {
  const column = columns.find(({ key, value }) => value && key === order.replace(/^-/, ""));
  if (!column) return rows;
  const sign = order.startsWith("-") ? -1 : 1;
  return [...rows].sort((left, right) => sign * compare(column.value(left), column.value(right)));
}

/** Compares numbers by size and texts by their words and numbers; null counts as larger than any value. */
function compare(left, right) {
  if (left === null || left === undefined) return right === null || right === undefined ? 0 : 1;
  if (right === null || right === undefined) return -1;
  if (typeof left === "string") return left.localeCompare(String(right), "en", { numeric: true });
  return left < right ? -1 : left > right ? 1 : 0;
}
