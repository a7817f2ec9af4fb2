/** One execution at an instant: what it waits for, its pending activities, and its history event by event. */

import { read } from "../api.js";
import { element } from "../dom.js";
import { durationText, instantText, msOf } from "../time_text.js";
import { facts } from "../parts/facts.js";
import { table } from "../parts/table.js";
import { workflowActions } from "../parts/workflow_actions.js";
import { statusTag } from "./workflows.js";

const IN_HEAD = new Set(["workflow_type", "workflow_id", "run_id", "task_queue"]); // shown above the history
const TEXT_CHARACTERS_MAX = 300; // of an attribute; orbctl workflow history has all

export const workflow = {
  title: ({ path }) => `Workflow ${path[1]}`,
  async load({ path: [, id], query, at }, signal) {
    const [answer, access] = await Promise.all([read(["workflows", id], { run: query.run, at }, signal), read(["access"], {}, signal)]);
    return { ...answer, mayAct: access.workflowActions };
  },
  view({ workflow: data, pending, history, dropped, mayAct }, state) {
    const startMs = msOf(data.started);
    return [
      element("section", { class: "lead" }, facts([
        ["Status", statusTag(data.status)], ["Type", data.type], ["Run", data.run], ["Started", instantText(data.started)],
        ["Closed", data.closed ? `${instantText(data.closed)}, after ${durationText(msOf(data.closed) - startMs)}` : ""],
        ["Waits for", data.waitsFor],
      ])),
      pending.length > 0 ? element("section", {}, element("h2", {}, "Pending activities"), pendingTable(pending, state)) : null,
      mayAct && state.isLive ? workflowActions(data, readAgain) : null,
      element("section", {}, element("h2", {}, "History"),
        dropped > 0 ? element("p", { class: "hint" }, `${dropped} older events are left out.`) : null,
        element("ol", { class: "history" }, history.map((event, index) => entry(event, history[index - 1], startMs)))),
    ];
  },
};

/** Reads the page again after an action, which need not write an event to the log. */
function readAgain() {
  window.dispatchEvent(new Event("locationchange"));
}

function pendingTable(pending, state) {
  return table({
    caption: "Pending activities", rows: pending, state,
    columns: [
      { key: "activity", title: "Activity", cell: ({ activity }) => activity },
      { key: "attempt", title: "Attempt", class: "number", cell: ({ attempt }) => attempt ?? "-" },
      { key: "failure", title: "Last failure", class: "wide", cell: ({ lastFailure }) => lastFailure || "-" },
      { key: "next", title: "Next attempt", cell: ({ nextAttempt }) => instantText(nextAttempt) },
    ],
  });
}

function entry({ id, time, type, attributes }, before, startMs) {
  const sinceStart = msOf(time) - startMs;
  const gap = before ? msOf(time) - msOf(before.time) : 0;
  return element("li", { class: `history-entry ${categoryOf(type)}` },
    element("span", { class: "history-time", title: instantText(time) }, `+${preciseText(sinceStart)}`),
    element("span", { class: "history-type" }, element("strong", {}, type), element("span", { class: "hint" }, ` #${id}`,
      gap >= 1000 ? ` · ${durationText(gap)} later` : "")),
    facts(Object.entries(attributes ?? {}).filter(([name]) => !IN_HEAD.has(name)).map(([name, value]) => [name, attributeText(value)])));
}

/** `0.412s` in the first minute of a run, where most events are; then a duration. */
function preciseText(ms) {
  return ms < 60_000 ? `${(ms / 1000).toFixed(3)}s` : durationText(ms);
}

function categoryOf(type) {
  if (/Failed|TimedOut|Paused|Terminated/.test(type)) return "history-failure";
  if (/Completed|Fired/.test(type)) return "history-success";
  if (/Signal|Update|Cancel/.test(type)) return "history-message";
  return "";
}

function attributeText(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > TEXT_CHARACTERS_MAX ? `${text.slice(0, TEXT_CHARACTERS_MAX)}…` : text;
}
