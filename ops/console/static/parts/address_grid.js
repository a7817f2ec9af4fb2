/**
 * The addresses of a pool as a grid: a cell for each address, or for each range if there are too many.
 *
 * The grid is one tab stop; arrow keys, Home, End, Page Up and Page Down move in it, Enter opens the
 * cell. The cell under the pointer or with the focus is described beside the grid. The cell of a range
 * shows its allocated share, and opens the range.
 */

import { element, replace } from "../dom.js";
import { countText, parseAddress, rangeText, shareOf } from "../numbers.js";
import { STATES, stateClass } from "../states.js";
import { addressCells, rangeCells } from "./grid_cells.js";

const COLUMNS = [[512, 16], [1024, 32], [Infinity, 64]]; // up to this many cells: this many columns
const PAGE_ROWS = 8;
const HEAD_CHARACTERS_MAX = 15;
const FILL_MIN = 0.06; // the smallest coloured share, so that a range with one allocated address does not look empty

/** `answer`: the grid of the API. `hrefs`: `{address(text), range(first, last)}`. */
export function addressGrid(answer, hrefs) {
  const isRanges = answer.mode === "ranges";
  const cells = isRanges ? rangeCells(answer) : addressCells(answer);
  const [, columns] = COLUMNS.find(([most]) => cells.length <= most);
  const lead = isRanges ? 0 : Number(parseAddress(answer.first).value % BigInt(columns));
  const details = element("aside", { class: "grid-details", "aria-label": "Selected cell" });
  const nodes = cells.map((cell) => (isRanges ? rangeNode(cell, hrefs) : addressNode(cell, hrefs)));
  const grid = element("div", {
    class: `grid ${isRanges ? "grid-ranges" : ""} ${columns > 16 ? "grid-dense" : ""}`,
    role: "grid", "aria-label": `Addresses ${rangeText(answer.first, answer.last)}`, "aria-readonly": "true",
    style: { "--columns": columns },
  }, rowsOf(nodes, cells, columns, lead));
  describe(details, cells[0], isRanges);
  follow(grid, nodes, columns, lead, (index) => describe(details, cells[index], isRanges));
  return element("div", { class: "grid-frame" }, element("div", { class: "grid-scroll" }, grid), details);
}

function addressNode(cell, hrefs) {
  const { letter } = STATES.find(({ name }) => name === cell.state) ?? { letter: "" };
  const mark = cell.isQuarantined && cell.state !== "quarantined" ? "has-quarantine" : "";
  return element("a", {
    class: `cell ${stateClass(cell.state)} ${mark}`, role: "gridcell", tabindex: -1, href: hrefs.address(cell.first),
    "data-key": cell.first, "aria-label": cellText(cell),
  }, element("span", { class: "cell-number" }, cell.label), letter ? element("span", { class: "cell-letter" }, letter) : null);
}

function rangeNode(cell, hrefs) {
  const total = Object.values(cell.counts).reduce((sum, count) => sum + count, 0);
  const used = cell.counts.allocated ?? 0;
  const share = used > 0 ? Math.max(FILL_MIN, shareOf(used, total || cell.size)) : 0;
  const isOutside = Object.keys(cell.counts).every((state) => state === "outside");
  return element("a", {
    class: `cell range ${isOutside ? "state-outside" : ""} ${cell.counts.quarantined ? "has-quarantine" : ""}`,
    role: "gridcell", tabindex: -1, href: hrefs.range(cell.first, cell.last), "data-key": cell.first,
    "aria-label": cellText(cell), style: { "--share": share },
  }, element("span", { class: "cell-number" }, cell.label),
  used > 0 ? element("span", { class: "cell-count" }, countText(used)) : null);
}

/** Rows, each with its first address in front. The first row is indented so that addresses with the same end align. */
function rowsOf(nodes, cells, columns, lead) {
  const rows = [];
  for (let start = -lead; start < nodes.length; start += columns) {
    const from = Math.max(0, start);
    const gap = start < 0 ? element("span", { class: "gap", role: "presentation", style: { "grid-column": `span ${-start}` } }) : null;
    rows.push(element("div", { class: "grid-row", role: "row" },
      element("span", { class: "row-head", role: "rowheader", title: cells[from].first }, endOf(cells[from].first)),
      gap, nodes.slice(from, start + columns)));
  }
  return rows;
}

/** The end of a long address: only the end differs between rows. */
function endOf(address) {
  return address.length > HEAD_CHARACTERS_MAX ? `…${address.slice(1 - HEAD_CHARACTERS_MAX)}` : address;
}

function cellText(cell) {
  if (cell.counts) {
    const words = Object.entries(cell.counts).map(([state, count]) => `${countText(count)} ${state}`);
    return `${rangeText(cell.first, cell.last)}: ${words.join(", ") || "no addresses"}`;
  }
  const holder = cell.facts.find(([title]) => title === "Pod" || title === "Released by");
  return `${cell.first} ${cell.state}${holder ? `, ${holder[0] === "Pod" ? "held by" : "released by"} ${holder[1]}` : ""}`;
}

function describe(details, cell, isRanges) {
  const facts = isRanges
    ? Object.entries(cell.counts).filter(([state]) => state !== "outside").map(([state, count]) => [state, countText(count)])
    : [["State", cell.state], ...cell.facts];
  replace(details,
    element("p", { class: "grid-title" }, rangeText(cell.first, cell.last)),
    element("dl", {}, facts.map(([title, text]) => [element("dt", {}, title), element("dd", {}, text)])),
    element("p", { class: "hint" }, isRanges ? "Enter or click shows this range." : "Enter or click shows its history."));
}

/** Moves the only tab stop with the focus; describes what has the focus or is under the pointer. */
function follow(grid, nodes, columns, lead, describeCell) {
  const indexes = new Map(nodes.map((node, index) => [node, index]));
  let current = 0;
  nodes[0]?.setAttribute("tabindex", "0");
  const indexOf = (target) => indexes.get(target.closest(".cell"));
  const select = (index) => {
    nodes[current].setAttribute("tabindex", "-1");
    nodes[index].setAttribute("tabindex", "0");
    current = index;
  };
  grid.addEventListener("pointerover", (event) => indexOf(event.target) !== undefined && describeCell(indexOf(event.target)));
  grid.addEventListener("focusin", (event) => {
    const index = indexOf(event.target);
    if (index === undefined) return;
    select(index);
    describeCell(index);
  });
  grid.addEventListener("keydown", (event) => {
    const rowStart = current - ((current + lead) % columns);
    const moves = {
      ArrowLeft: current - 1, ArrowRight: current + 1, ArrowUp: current - columns, ArrowDown: current + columns,
      PageUp: current - PAGE_ROWS * columns, PageDown: current + PAGE_ROWS * columns,
      Home: event.ctrlKey ? 0 : rowStart, End: event.ctrlKey ? nodes.length - 1 : rowStart + columns - 1,
    };
    if (!(event.key in moves) || event.altKey || event.metaKey) return;
    event.preventDefault();
    nodes[Math.min(nodes.length - 1, Math.max(0, moves[event.key]))].focus();
  });
}
