/**
 * Calls a function after new events were written to the log. It follows the server's stream of events.
 *
 * A burst of events makes one call. While the page is hidden, the call waits until it is visible.
 */

import { followEvents } from "./event_stream.js";

const PAUSE_MS = 2_000; // between two calls, because each reads a page again

export class LogFollower {
  #changed;
  #connection;
  #timer = null;
  #isPending = false;
  #ending = null;

  /** `changed()` is called after new events, `connection(isConnected)` when the connection is made or lost. */
  constructor(changed, connection) {
    this.#changed = changed;
    this.#connection = connection;
    document.addEventListener("visibilitychange", () => this.#flush());
  }

  /** Follows until the page is closed. A second call connects again, with the token that is stored then. */
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
