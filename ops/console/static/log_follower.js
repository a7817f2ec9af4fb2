/**
 * Calls back after the log grew, by the server's stream of events.
 *
 * Bursts become one call. A hidden page gets its call when it is visible again.
 */

import { followEvents } from "./event_stream.js";

const PAUSE_MS = 2_000; // between two calls: each reads a page again

export class LogFollower {
  #changed;
  #connection;
  #timer = null;
  #isPending = false;
  #ending = null;

  /** `changed()` is called after the log grew, `connection(isConnected)` when that changes. */
  constructor(changed, connection) {
    this.#changed = changed;
    this.#connection = connection;
    document.addEventListener("visibilitychange", () => this.#flush());
  }

  /** Follows until the page is closed; starts anew if it follows already (with another token). */
  start() {
    this.#ending?.abort();
    this.#ending = new AbortController();
    followEvents({}, this.#ending.signal, () => this.#notice(), this.#connection).catch(() => this.#connection(false));
  }

  #notice() {
    this.#isPending = true;
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#flush();
    }, PAUSE_MS);
  }

  #flush() {
    if (!this.#isPending || document.hidden) return;
    this.#isPending = false;
    this.#changed();
  }
}
