/** Texts of the server as sentences of a page. */

/** A message of the server with the full stop that it does not have. */
export function sentence(text) {
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

/** The same in upper case first: for texts that never begin with a name, such as remedies. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
