/** A subnet: the addresses of its pools, its free addresses and their forecast, and its changes. */

import { read, readIfAny } from "../api.js";
import { element } from "../dom.js";
import { msOf } from "../time_text.js";
import { countColumn, nameColumn } from "../parts/columns.js";
import { facts } from "../parts/facts.js";
import { forecastText } from "../parts/forecast.js";
import { changes } from "../parts/history_table.js";
import { table } from "../parts/table.js";
import { usageBar, usageText } from "../parts/usage_bar.js";
import { useColumns } from "./overview.js";

export const subnet = {
  title: ({ path }) => `Subnet ${path[1]}`,
  async load({ path: [, name], at }, signal) {
    const [answer, history] = await Promise.all([
      read(["subnets", name], { at }, signal), readIfAny(["subnets", name, "timeline"], { at }, signal),
    ]);
    return { ...answer, history };
  },
  view({ at, subnet: data, pools, history }, state) {
    const nowMs = msOf(at.time);
    return [
      element("section", { class: "lead" }, usageBar(data), element("p", {}, usageText(data), "."),
        element("p", { class: "forecast" }, forecastText(data, nowMs))),
      element("section", {}, element("h2", {}, "Pools"), table({
        caption: "Pools of the subnet", rows: pools, state, sort: "sort", empty: "No pool belongs to this subnet at this instant.",
        columns: [
          nameColumn("pool", "Pool", ({ name }) => name), nameColumn("application", "Application"), ...useColumns(),
          countColumn("free", "Free", ({ counts }) => counts.free),
        ],
      })),
      element("section", {}, element("h2", {}, "Definition"), facts([
        ["Subnet", data.subnet], ["IPs", data.ips.join(", ")], ["Excluded", data.excludeIPs.join(", ")], ["Gateway", data.gateway],
        ["Routes", data.routes.map(({ to, via }) => `${to} via ${via}`).join(", ")], ["Notes", data.retiring ? "retiring" : ""],
      ]), history ? changes(history, state) : null),
    ];
  },
};
