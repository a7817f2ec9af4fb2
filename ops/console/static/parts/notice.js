/** Notices: what failed and what to do, what is empty, what is loading. */

import { element } from "../dom.js";
import { ApiError } from "../api.js";
import { capital, sentence } from "../sentences.js";

/** A failure, with the remedy of the server; `retry` is called by its button. */
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

/** A list without entries: what is missing and where to look. */
export function emptyNotice(...text) {
  return element("p", { class: "notice notice-empty" }, ...text);
}
