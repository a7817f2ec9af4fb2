/** Columns that several tables use. `of(row)` returns the value of a row. */

import { link } from "../dom.js";
import { addressHref, podHref, subjectHref } from "../links.js";
import { countText, parseAddress } from "../numbers.js";
import { instantText } from "../time_text.js";

/** An address with a link to its page. */
export function addressColumn(title = "Address", of = ({ address }) => address) {
  return {
    key: "address", title, class: "code",
    value: (row) => parseAddress(of(row))?.value,
    cell: (row) => link(addressHref(of(row)), of(row)),
  };
}

/** A Pod with a link to its page; "-" if `pod` is "". */
export function podColumn(title = "Pod") {
  const name = ({ namespace, pod }) => (pod ? `${namespace}/${pod}` : "-");
  return { key: "pod", title, value: name, cell: (row) => link(podHref(row.namespace, row.pod), name(row)) };
}

/** The name of an object that has a page: a pool, a subnet, a node. */
export function nameColumn(kind, title, of = (row) => row[kind]) {
  return {
    key: kind, title, value: of,
    cell: (row) => link(of(row) ? subjectHref(`${kind}/${of(row)}`) : null, of(row) || "-"),
  };
}

/** A text. */
export function textColumn(key, title, of = (row) => row[key], options = {}) {
  return { key, title, value: of, cell: (row) => of(row) || "-", ...options };
}

/** A count. */
export function countColumn(key, title, of = (row) => row[key]) {
  return { key, title, class: "number", value: of, cell: (row) => countText(of(row)) };
}

/** A time of the API. */
export function timeColumn(key, title, of = (row) => row[key]) {
  return { key, title, value: of, cell: (row) => instantText(of(row)) };
}
