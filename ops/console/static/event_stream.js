/**
 * Follows the server-sent events of the server. Uses fetch, because EventSource cannot send a token.
 *
 * After a lost connection it connects again with the id of the last event, so that no event is missed.
 * The pauses between attempts grow.
 */

import { ApiError, headers, refusal, urlOf } from "./api.js";

const PAUSE_MS_MIN = 1_000;
const PAUSE_MS_MAX = 30_000;
const LINE_CHARACTERS_MAX = 1_000_000;

/**
 * Calls `received(type, data)` for each message until `signal` is aborted; `data` is the parsed JSON, or null.
 * `changed(isConnected)` is called when the connection is made or lost.
 */
export async function followEvents(query, signal, received, changed = () => {}) {
  let lastId = "";
  let pauseMs = PAUSE_MS_MIN;
  while (!signal.aborted) {
    try {
      for await (const message of messages(query, lastId, signal, () => changed(true))) {
        lastId = message.id || lastId;
        pauseMs = PAUSE_MS_MIN;
        received(message.type, message.data ? JSON.parse(message.data) : null);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && [400, 401, 403].includes(error.status)) throw error;
    }
    changed(false);
    await pause(pauseMs, signal);
    pauseMs = Math.min(PAUSE_MS_MAX, pauseMs * 2);
  }
}

async function* messages(query, lastId, signal, connected) {
  const resume = lastId ? { "last-event-id": lastId } : {};
  const response = await fetch(urlOf(["events", "stream"], query), {
    headers: { ...headers("text/event-stream"), ...resume }, signal, cache: "no-store",
  });
  if (!response.ok) throw new ApiError(response.status, await refusal(response));
  connected();
  let message = { type: "message", data: "", id: "" };
  for await (const line of lines(response.body)) {
    if (line === "") {
      if (message.data || message.type !== "message") yield message;
      message = { type: "message", data: "", id: "" };
    } else if (line.startsWith("event:")) message.type = valueOf(line);
    else if (line.startsWith("data:")) message.data += valueOf(line);
    else if (line.startsWith("id:")) message.id = valueOf(line);
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let partialLine = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (partialLine + value).split(/\r?\n/);
      partialLine = parts.pop();
      if (partialLine.length > LINE_CHARACTERS_MAX) throw new Error("a line of the stream has no end");
      yield* parts;
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection may have ended already
  }
}

function valueOf(line) {
  return line.slice(line.indexOf(":") + 1).trimStart();
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
