/** The warning above every page if parts of the log cannot be read, because answers lack the events of these parts. */

import { element, replace } from "./dom.js";
import { plural } from "./numbers.js";
import { capital, sentence } from "./sentences.js";

const SHOWN = 3;

/** Shows the warning for the unread parts of `log`, the extent of the log, or hides it. */
export function showUnread({ unread = [], unreadLeftOut = 0 }) {
  const box = document.getElementById("log-warning");
  box.hidden = unread.length === 0;
  const more = unread.length + unreadLeftOut - SHOWN;
  replace(box, unread.slice(0, SHOWN).map(({ message, remedy }) =>
    element("p", {}, capital(sentence(message)), remedy ? ` ${capital(sentence(remedy))}` : "")),
  more > 0 ? element("p", {}, `${plural(more, "further part")} cannot be read either; orbctl verify lists all of them.`) : null);
}
