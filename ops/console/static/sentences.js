/** Texts of the server as sentences of a page. */

/** A message of the server, with a full stop added if it has none. */
export function sentence(text) {
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

/** The text with a capital first letter: for texts that do not begin with a name, such as remedies. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
