/** The actions on an open execution: retry it if it is paused, or send it a signal. */

import { send } from "../api.js";
import { element, replace } from "../dom.js";
import { errorNotice } from "./notice.js";

const TEXT_CHARACTERS_MAX = 1024;
const SETTLED_MS = 500; // time for a worker to process the request before the page is read again

let kept = { key: "", section: null, show: null }; // keeps typed text when the page is read again

/** The forms for an execution; null for a closed one. `acted` is called after the server accepted a request. */
export function workflowActions({ id, run, status }, acted) {
  if (status !== "Running" && status !== "Paused") return null;
  const key = `${id} ${run}`;
  if (kept.key !== key) kept = { key, ...formsOf(id, acted) };
  kept.show(status);
  return kept.section;
}

function formsOf(id, acted) {
  const outcome = element("div", { role: "status" });
  const act = async (verb, document, sentence) => {
    replace(outcome);
    try {
      await send(["workflows", id, verb], document);
      replace(outcome, element("p", { class: "notice notice-good" }, sentence));
      setTimeout(acted, SETTLED_MS);
    } catch (error) {
      replace(outcome, errorNotice(error, () => act(verb, document, sentence)));
    }
  };
  const retry = form("Retry", [{ name: "reason", label: "Reason", hint: "etcd is back" }],
    ({ reason }) => act("retry", { reason }, "The retry was sent; its result is below."));
  const signal = form("Send", [{ name: "name", label: "Signal", required: true }, { name: "arguments", label: "Arguments, a JSON list", hint: "[]" }],
    ({ name, arguments: text }) => {
      const values = parsed(text);
      if (values) act("signal", { name, arguments: values }, `The signal ${name} was sent; its result is below.`);
      else replace(outcome, element("p", { class: "notice notice-error", role: "alert" }, "The arguments are not a list in JSON."));
    });
  const section = element("section", { class: "actions" }, element("h2", {}, "Actions"), retry, signal, outcome);
  return { section, show: (status) => { retry.hidden = status !== "Paused"; } };
}

function form(verb, fields, submitted) {
  const made = element("form", {
    class: "filters",
    on: { submit: (event) => { event.preventDefault(); submitted(Object.fromEntries(new FormData(made))); } },
  }, fields.map((field) => element("label", {}, element("span", {}, field.label), input(field))), element("button", { type: "submit" }, verb));
  return made;
}

function input({ name, hint, required }) {
  return element("input", {
    type: "text", name, placeholder: hint, required, maxlength: TEXT_CHARACTERS_MAX, spellcheck: "false", autocomplete: "off",
    "data-key": `action-${name}`,
  });
}

/** The list of arguments; [] for an empty text, null if the text is not a JSON list. */
function parsed(text) {
  if (!text.trim()) return [];
  try {
    const values = JSON.parse(text);
    return Array.isArray(values) ? values : null;
  } catch {
    return null;
  }
}
