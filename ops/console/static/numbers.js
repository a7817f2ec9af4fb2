/**
 * Counts as text, and the arithmetic of addresses.
 *
 * An IPv6 network has more addresses than a double can count exactly. So counts may be BigInt or
 * decimal text, and addresses are BigInt. Pure.
 */

const GROUPED = new Intl.NumberFormat("en-US");
const COMPACT_FROM = 10_000_000n;
const CLAMPED = 2n ** 53n - 1n; // the largest count of the API: it stands for larger ones too

/** `1,024`; large counts as `1.8×10¹⁹`, and those that the API has clamped as `>9×10¹⁵`. */
export function countText(count) {
  if (count === null || count === undefined) return "-";
  const exact = BigInt(count);
  if (exact < COMPACT_FROM) return GROUPED.format(exact);
  if (exact === CLAMPED) return ">9×10¹⁵";
  const digits = exact.toString();
  const power = [...String(digits.length - 1)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");
  return `${digits[0]}.${digits[1]}×10${power}`;
}

/** The share of `part` in `whole`, from 0 to 1; 0 if `whole` is 0. */
export function shareOf(part, whole) {
  return Number(whole) > 0 ? Math.min(1, Number(part) / Number(whole)) : 0;
}

/** `37 %`. Only an exact 0 or 1 is shown as 0 % or 100 %. */
export function percentText(share) {
  if (share > 0 && share < 0.01) return "<1 %";
  if (share < 1 && share > 0.99) return ">99 %";
  return `${Math.round(share * 100)} %`;
}

/** A count with its noun: `1 address`, `2 addresses`. */
export function plural(count, noun, nouns = `${noun}s`) {
  return `${countText(count)} ${Number(count) === 1 ? noun : nouns}`;
}

/** `{family, value}` of an address, null if the text is not an address. */
export function parseAddress(text) {
  return text.includes(":") ? parseIPv6(text) : parseIPv4(text);
}

/** The text of an address; IPv6 as in RFC 5952. */
export function formatAddress(family, value) {
  return family === 4 ? formatIPv4(value) : formatIPv6(value);
}

/** A range as a CIDR if it is one, else as `first – last`. `first` and `last` are texts. */
export function rangeText(first, last) {
  const [from, to] = [parseAddress(first), parseAddress(last)];
  if (first === last) return first;
  if (!from || !to || from.family !== to.family) return `${first} – ${last}`;
  const size = to.value - from.value + 1n;
  const isBlock = size > 0n && (size & (size - 1n)) === 0n && from.value % size === 0n;
  if (!isBlock) return `${first} – ${last}`;
  return `${first}/${(from.family === 4 ? 32 : 128) - (size.toString(2).length - 1)}`;
}

function parseIPv4(text) {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) return null;
  return { family: 4, value: parts.reduce((sum, part) => sum * 256n + BigInt(part), 0n) };
}

function parseIPv6(text) {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const [head, tail] = halves.map((half) => (half ? half.split(":") : []));
  const missing = 8 - head.length - (tail?.length ?? 0);
  if (tail === undefined ? missing !== 0 : missing < 1) return null;
  const groups = tail === undefined ? head : [...head, ...Array(missing).fill("0"), ...tail];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return null;
  return { family: 6, value: groups.reduce((sum, group) => sum * 65536n + BigInt(`0x${group}`), 0n) };
}

function formatIPv4(value) {
  return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 255n).join(".");
}

function formatIPv6(value) {
  const groups = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(((value >> shift) & 0xffffn).toString(16));
  const zeros = longestZeros(groups);
  if (zeros.length < 2) return groups.join(":");
  const head = groups.slice(0, zeros.start).join(":");
  const tail = groups.slice(zeros.start + zeros.length).join(":");
  return `${head}::${tail}`;
}

function longestZeros(groups) {
  let best = { start: 0, length: 0 };
  let start = 0;
  groups.forEach((group, index) => {
    if (group !== "0") start = index + 1;
    else if (index - start + 1 > best.length) best = { start, length: index - start + 1 };
  });
  return best;
}
