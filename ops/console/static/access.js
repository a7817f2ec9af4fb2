/**
 * Stores the token of the user, and shows the form for it, where the server requires a token.
 *
 * The token is kept in the session storage of this tab only: in no cookie and in no URL.
 */

import { element, replace } from "./dom.js";
import { capital, sentence } from "./sentences.js";

const KEY = "orbweaver-token";
const TOKEN_CHARACTERS_MAX = 16_384;

/** The token, "" for none. */
export function token() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** A form for a token. `accepted` is called after the token is stored. `message`: why a token is needed. */
export function tokenForm(message, accepted) {
  const field = element("input", {
    type: "password", id: "token", autocomplete: "off", maxlength: TOKEN_CHARACTERS_MAX, required: true,
  });
  const form = element("form", { class: "notice" },
    element("h2", {}, "Access"),
    element("p", {}, capital(sentence(message))),
    element("p", {}, "Paste a token: that of ", element("code", {}, "kubectl create token NAME"), ", or the one that ",
      element("code", {}, "orbctl console"), " has printed. It stays in this tab."),
    element("label", { for: "token" }, "Token "), field, " ", element("button", { type: "submit" }, "Continue"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, field.value.trim());
    replace(form);
    accepted();
  });
  return form;
}

/** Removes a token that the server refused. */
export function forgetToken() {
  sessionStorage.removeItem(KEY);
}
