/** Notices: an error with its remedy, or an empty list. */

import { element } from "../dom.js";
import { ApiError } from "../api.js";
import { capital, sentence } from "../sentences.js";

/** An error with the remedy of the server; its button calls `retry`. */
export function errorNotice(error, retry) {
  const isKnown = error instanceof ApiError;
  const message = isKnown ? error.message : "The console failed to draw this page.";
  return element("div", { class: "notice notice-error", role: "alert" },
    element("p", {}, element("strong", {}, capital(sentence(message)))),
    isKnown && error.remedy ? element("p", {}, capital(sentence(error.remedy))) : null,
    !isKnown ? element("p", {}, "The browser's developer tools show the cause.") : null,
    !isKnown || error.isRetryable
      ? element("button", { type: "button", on: { click: retry } }, "Try again")
      : null);
}

/** A text in place of an empty list. */
export function emptyNotice(...text) {
  return element("p", { class: "notice notice-empty" }, ...text);
}
