/** A bar that divides the addresses of a pool or a subnet by their states. */

import { element } from "../dom.js";
import { countText, shareOf } from "../numbers.js";
import { STATES, stateClass } from "../states.js";

const VISIBLE_MIN = 0.004; // the least width of a part that is not zero

/** `counts`: the number of addresses by state and their `total`. */
export function usageBar(counts) {
  const whole = Number(counts.total) + Number(counts.excluded ?? 0); // excluded addresses are not part of the total
  const parts = STATES.filter(({ name }) => name !== "free" && Number(counts[name] ?? 0) > 0).map(({ name }) => {
    const share = Math.max(VISIBLE_MIN, shareOf(counts[name], whole));
    return element("span", { class: stateClass(name), style: { width: `${share * 100}%` } });
  });
  return element("div", { class: "usage-bar", role: "img", "aria-label": usageText(counts), title: usageText(counts) }, parts);
}

/** `12 allocated, 1 reserved, 243 free of 256; 4 excluded`. */
export function usageText(counts) {
  const words = STATES.filter(({ name }) => name !== "excluded" && Number(counts[name] ?? 0) > 0)
    .map(({ name }) => `${countText(counts[name])} ${name}`);
  const excluded = Number(counts.excluded ?? 0) > 0 ? `; ${countText(counts.excluded)} excluded` : "";
  return `${words.join(", ") || "no addresses"} of ${countText(counts.total)}${excluded}`;
}

/** A legend of the states with letter, colour and meaning. `shown`: their names; all by default. */
export function legend(shown = STATES.map(({ name }) => name)) {
  return element("ul", { class: "legend", "aria-label": "Legend" },
    STATES.filter(({ name }) => shown.includes(name)).map(({ name, letter, text }) =>
      element("li", { title: text },
        element("span", { class: `swatch ${stateClass(name)}`, "aria-hidden": "true" }, letter), name)));
}
