/** Converts the answer of the API about a range of addresses to cells of the grid. Pure. */

import { formatAddress, parseAddress } from "../numbers.js";
import { instantText } from "../time_text.js";

/**
 * A cell for each address: `{first, last, label, state, facts, isQuarantined}`; `facts` are pairs of a title
 * and a text: its holder, or why no Pod can get it. An address in quarantine can have a holder too.
 */
export function addressCells(answer) {
  const start = parseAddress(answer.first);
  const facts = factsByOffset(answer);
  const quarantined = new Set((answer.quarantined ?? []).map(({ offset }) => offset));
  const cells = [];
  for (const [state, length] of answer.states) {
    for (let step = 0; step < length; step += 1) {
      const offset = cells.length;
      const address = formatAddress(start.family, start.value + BigInt(offset));
      cells.push({
        first: address, last: address, label: labelOf(address), state,
        facts: facts.get(offset) ?? [], isQuarantined: quarantined.has(offset),
      });
    }
  }
  return cells;
}

/** A cell for each range: `{first, last, label, size, counts}`. */
export function rangeCells(answer) {
  return answer.cells.map((cell) => ({ ...cell, label: rangeLabel(cell.first, cell.last) }));
}

function factsByOffset({ holders = [], resting = [], quarantined = [] }) {
  const facts = new Map();
  for (const { offset, namespace, pod, node, interface: nic, mac, since } of holders) {
    facts.set(offset, withText([
      ["Pod", namespace ? `${namespace}/${pod}` : pod], ["Node", node], ["Interface", nic], ["MAC", mac],
      ["Since", since?.time ? instantText(since.time) : ""],
    ]));
  }
  for (const { offset, namespace, pod, until } of resting) {
    facts.set(offset, withText([["Released by", pod ? `${namespace}/${pod}` : ""], ["Cool-down until", until ? instantText(until) : ""]]));
  }
  for (const { offset, reason, evidence } of quarantined) {
    facts.set(offset, [...(facts.get(offset) ?? []), ...withText([["Reason", reason], ["Evidence", evidence]])]);
  }
  return facts;
}

function withText(facts) {
  return facts.filter(([, text]) => text);
}

/** The part of an address that differs from its neighbours. */
function labelOf(address) {
  return address.slice(Math.max(address.lastIndexOf("."), address.lastIndexOf(":")) + 1) || "0";
}

/** `4.0` of 10.6.4.0; of an IPv6 range the group of 16 bits in which it differs from its neighbours. */
function rangeLabel(first, last) {
  const [from, to] = [parseAddress(first), parseAddress(last)];
  if (from.family === 4) return first.split(".").slice(2).join(".");
  const bits = (to.value - from.value).toString(2).length; // how many low bits differ inside the range
  return ((from.value >> BigInt(Math.floor(bits / 16) * 16)) & 0xffffn).toString(16);
}
