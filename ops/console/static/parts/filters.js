/** Filters of a list. The values are stored in the URL; the request reads them from there. */

import { element } from "../dom.js";
import { hrefHere, navigate, readLocation } from "../location.js";

const TEXT_CHARACTERS_MAX = 253;

/**
 * `fields`: `{name, label, options?, hint?}`. A field with `options` (texts, or pairs of value and text) is a
 * list, any other an input for text. A change shows the first page of the new result.
 */
export function filters(state, fields) {
  const apply = (form) => {
    const changes = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
    navigate(hrefHere({ ...changes, cursor: "" }, readLocation()));
  };
  const form = element("form", {
    class: "filters", role: "search", "aria-label": "Filters",
    on: {
      submit: (event) => { event.preventDefault(); apply(form); },
      change: (event) => event.target.matches("select") && apply(form),
    },
  }, fields.map((field) => element("label", {}, element("span", {}, field.label), inputOf(field, state.query[field.name] ?? ""))),
  element("button", { type: "submit" }, "Filter"),
  fields.some(({ name }) => state.query[name])
    ? element("a", { href: hrefHere(Object.fromEntries([["cursor", ""], ...fields.map(({ name }) => [name, ""])]), state) }, "Clear")
    : null);
  return form;
}

function inputOf({ name, options, hint }, value) {
  if (!options) {
    return element("input", {
      type: "text", name, value, placeholder: hint, maxlength: TEXT_CHARACTERS_MAX, spellcheck: "false", autocomplete: "off",
      "data-key": `filter-${name}`,
    });
  }
  const pairs = [["", "any"], ...options.map((option) => [option].flat())];
  if (value && !pairs.some(([known]) => known === value)) pairs.push([value]);
  const box = element("select", { name, "data-key": `filter-${name}` },
    pairs.map(([known, text]) => element("option", { value: known }, text ?? known)));
  box.value = value;
  return box;
}
