/**
 * The states of an address: words, letters and the order in which they are drawn.
 *
 * `style/states.css` gives each a colour and a pattern. The letter serves readers who cannot tell
 * the colours apart.
 */

/** In the order of bars and legends: used addresses, then unusable ones, then free ones. */
export const STATES = [
  { name: "allocated", letter: "A", text: "a Pod holds it" },
  { name: "resting", letter: "r", text: "released recently; in cool-down before another Pod gets it" },
  { name: "quarantined", letter: "Q", text: "another host uses it, or an operator put it into quarantine" },
  { name: "reserved", letter: "R", text: "named by a SpiderReservedIP; never assigned" },
  { name: "excluded", letter: "X", text: "named by the excludeIPs of the pool; never assigned" },
  { name: "free", letter: "", text: "can be assigned" },
];

const BY_NAME = new Map(STATES.map((state) => [state.name, state]));
const OUTSIDE = { name: "outside", letter: "", text: "not an address of the pool" };

/** The state of that name; an unknown name is shown as outside of the pool. */
export function stateOf(name) {
  return BY_NAME.get(name) ?? OUTSIDE;
}

/** The class that draws a state in a bar, a cell or a legend. */
export function stateClass(name) {
  return `state state-${stateOf(name).name}`;
}
