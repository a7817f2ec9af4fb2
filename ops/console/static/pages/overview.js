/** Everything at a glance: alarms, pools, subnets, agents and controllers. */

import { read } from "../api.js";
import { element, link } from "../dom.js";
import { subjectHref } from "../links.js";
import { hrefOf } from "../location.js";
import { countText, percentText } from "../numbers.js";
import { distanceText, instantText, msOf } from "../time_text.js";
import { addressColumn, countColumn, nameColumn, textColumn } from "../parts/columns.js";
import { forecastWord, fullInMs } from "../parts/forecast.js";
import { emptyNotice } from "../parts/notice.js";
import { capital, sentence } from "../sentences.js";
import { table } from "../parts/table.js";
import { legend, usageBar } from "../parts/usage_bar.js";

const COMPARABLE = 2 ** 40; // with fewer addresses in total, a bar can show the allocated share

export const overview = {
  title: () => "Overview",
  async load({ at }, signal) {
    const [answer, reserved] = await Promise.all([read(["overview"], { at }, signal), read(["reservations"], { at }, signal)]);
    return { ...answer, reserved };
  },
  view(data, state) {
    const nowMs = msOf(data.at.time) ?? 0; // on the live page, the clock of the server
    return [
      totals(data.totals),
      alarms(data.alarms),
      section("Pools", data.totals.pools, poolTable(data.pools, state, nowMs)),
      data.subnets.length > 0 ? section("Subnets", data.totals.subnets, subnetTable(data.subnets, state, nowMs)) : null,
      section("Quarantine and reservations", null, closedAddresses(data.reserved, state)),
      section("Agents and controllers", null, agentTable(data, state, nowMs)),
    ];
  },
};

function section(title, count, ...content) {
  return element("section", {}, element("h2", {}, title, count === null ? null : element("span", { class: "count" }, countText(count))), content);
}

function totals({ pools, subnets, pods, nodes, counts4, counts6 }) {
  const facts = [[pools, "pool"], [subnets, "subnet"], [pods, "Pod"], [nodes, "node"]];
  const families = [[4, counts4], [6, counts6]].filter(([, counts]) => Number(counts.total) > 0);
  return element("section", { class: "totals", "aria-label": "Totals" },
    element("p", { class: "figures" },
      facts.map(([count, noun]) => figure(count, Number(count) === 1 ? noun : `${noun}s`)), families.map(familyFigure)),
    families.filter(([, counts]) => isComparable(counts)).map(([, counts]) => usageBar(counts)), legend());
}

function figure(count, text) {
  return element("span", {}, element("strong", {}, countText(count)), ` ${text}`);
}

function familyFigure([family, counts]) {
  return figure(counts.allocated, `${isComparable(counts) ? `of ${countText(counts.total)} ` : ""}IPv${family} addresses allocated`);
}

/** Whether a bar can show the allocated share: among 2^64 addresses it would be too narrow to see. */
function isComparable({ total }) {
  return Number(total) < COMPARABLE;
}

function alarms(items) {
  if (items.length === 0) return element("p", { class: "notice notice-good" }, "No alarms.");
  return element("section", {}, element("h2", {}, "Alarms", element("span", { class: "count" }, items.length)),
    element("ul", { class: "alarms" }, items.map(({ severity, kind, name, message, remedy }) =>
      element("li", { class: `alarm alarm-${severity}` },
        element("span", { class: "severity" }, severity), " ",
        element("span", {}, name ? [link(subjectHref(`${kind}/${name}`), name), ": "] : null, sentence(message),
          remedy ? ` ${capital(sentence(remedy))}` : "")))));
}

function poolTable(pools, state, nowMs) {
  return table({
    caption: "Pools", rows: pools, state, sort: "pools", empty: "There are no pools at this instant.",
    columns: [
      nameColumn("pool", "Pool", ({ name }) => name), textColumn("subnet", "Subnet", ({ subnet }) => subnet, { class: "code" }),
      ...useColumns(), { ...countColumn("allocated", "Allocated", ({ counts }) => counts.allocated), cell: allocatedText },
      countColumn("free", "Free", ({ counts }) => counts.free), forecastColumn(nowMs), { key: "notes", title: "Notes", cell: poolNotes },
    ],
  });
}

/** How full a pool is: as a bar and as a number. */
export function useColumns() {
  return [
    { key: "use", title: "Use", class: "bar-column", value: ({ utilisation }) => utilisation, cell: ({ counts }) => usageBar(counts) },
    { key: "used", title: "", class: "number", cell: ({ utilisation }) => percentText(utilisation) },
  ];
}

function allocatedText({ counts }) {
  return `${countText(counts.allocated)} / ${countText(counts.total)}`;
}

function forecastColumn(nowMs) {
  return {
    key: "full", title: "Full in", class: "number",
    value: (row) => fullInMs(row, nowMs), cell: (row) => forecastWord(row, nowMs),
  };
}

/** The flags, subnet and application of a pool, as a list of words. */
export function poolNotes({ default: isDefault, disabled, retiring, owner, application }) {
  const notes = [
    isDefault && "default", disabled && "disabled", retiring && "retiring",
    owner && link(subjectHref(`subnet/${owner}`), `subnet ${owner}`),
    application && link(subjectHref(`application/${application}`), `of ${application}`),
  ].filter(Boolean);
  return notes.length > 0 ? notes.flatMap((note, index) => (index > 0 ? [", ", note] : [note])) : "-";
}

function subnetTable(subnets, state, nowMs) {
  return table({
    caption: "Subnets", rows: subnets, state, sort: "subnets",
    columns: [
      nameColumn("subnet", "Subnet", ({ name }) => name), textColumn("cidr", "CIDR", ({ subnet }) => subnet, { class: "code" }),
      { key: "use", title: "In pools", class: "bar-column", value: ({ utilisation }) => utilisation, cell: usageBar },
      countColumn("pools", "Pools", ({ pools }) => pools.length), countColumn("free", "Free"), forecastColumn(nowMs),
    ],
  });
}

function closedAddresses({ items, quarantined }, state) {
  if (items.length + quarantined.length === 0) return emptyNotice("No address is reserved or in quarantine.");
  return [
    quarantined.length > 0 ? table({
      caption: "Addresses in quarantine", rows: quarantined, state,
      columns: [
        addressColumn("In quarantine"),
        textColumn("reason", "Reason", ({ reason, evidence }) => [reason, evidence].filter(Boolean).join("; "), { class: "wide" }),
        textColumn("mac", "Other host", ({ mac }) => mac, { class: "code" }), nameColumn("node", "Seen from"),
      ],
    }) : null,
    items.length > 0 ? table({
      caption: "Reservations", rows: items, state,
      columns: [
        nameColumn("reservation", "Reservation", ({ name }) => name), textColumn("ips", "Addresses", ({ ips }) => ips.join(", "), { class: "code wide" }),
        countColumn("size", "Number"),
      ],
    }) : null,
  ];
}

function agentTable({ agents, leader }, state, nowMs) {
  const nameOf = ({ name }) => (leader?.name === name ? [name, " ", element("span", { class: "tag" }, "leads")] : name);
  return table({
    caption: "Agents and controllers", rows: agents, state, sort: "agents", empty: "Nothing has written to the log yet.",
    columns: [
      { ...textColumn("name", "Name"), cell: nameOf }, textColumn("kind", "Kind"), nameColumn("node", "Node"),
      countColumn("addresses", "Addresses"),
      { key: "last", title: "Last event", value: ({ last }) => last.position, cell: ({ last }) => lastEvent(last, nowMs) },
    ],
  });
}

function lastEvent({ position, time }, nowMs) {
  if (!time) return "-";
  return link(hrefOf([], { at: String(position) }), distanceText(msOf(time), nowMs), { title: instantText(time) });
}
