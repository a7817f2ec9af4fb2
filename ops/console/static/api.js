/**
 * Reads the JSON API of the console.
 *
 * Paths are relative to the page, so that a reverse proxy can serve the console below any path.
 * It only reads, but for the actions on workflows, which the server may have switched on.
 */

import { token } from "./access.js";

const ROOT = new URL("api/v1/", document.baseURI);

export const REQUEST_MS_MAX = 15_000;

/** A refusal of the server, or a server that does not answer (`status` 0). */
export class ApiError extends Error {
  constructor(status, { code = "", message, remedy = "" }) {
    super(message);
    Object.assign(this, { status, code, remedy });
  }

  /** Whether the same request may succeed later. */
  get isRetryable() {
    return this.status === 0 || this.status >= 500;
  }
}

/** The URL of a resource. `parts` of the path are encoded; empty values of the query are left out. */
export function urlOf(parts, query = {}) {
  const url = new URL(parts.map(encodeURIComponent).join("/"), ROOT);
  for (const [name, value] of Object.entries(query)) {
    for (const item of [value].flat()) {
      if (item !== null && item !== undefined && item !== "") url.searchParams.append(name, String(item));
    }
  }
  return url;
}

/** The JSON answer. Throws ApiError, and AbortError after `signal`. */
export async function read(parts, query = {}, signal = undefined) {
  const response = await request(urlOf(parts, query), { headers: headers("application/json") }, signal);
  return response.json();
}

/** Posts a document. Throws ApiError, and AbortError after `signal`. */
export async function send(parts, document, signal = undefined) {
  const sent = { method: "POST", body: JSON.stringify(document) };
  await request(urlOf(parts), { ...sent, headers: { ...headers("application/json"), "content-type": "application/json" } }, signal);
}

async function request(url, options, signal) {
  const deadline = AbortSignal.timeout(REQUEST_MS_MAX);
  let response;
  try {
    response = await fetch(url, { ...options, signal: signal ? AbortSignal.any([signal, deadline]) : deadline });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, unreachable(deadline.aborted));
  }
  if (response.ok) return response;
  throw new ApiError(response.status, await refusal(response));
}

/** The same, or null where the server has no such object. */
export async function readIfAny(parts, query, signal) {
  try {
    return await read(parts, query, signal);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** The headers of a request; with the token where the user gave one. */
export function headers(accept) {
  return token() ? { accept, authorization: `Bearer ${token()}` } : { accept };
}

/** The error in an answer of the server, or a text about a page that is not of the API. */
export async function refusal(response) {
  const plain = { message: `The server answered ${response.status} ${response.statusText}.` };
  try {
    const body = await response.json();
    return body.error?.message ? body.error : plain;
  } catch {
    return plain; // a proxy's page, not JSON
  }
}

function unreachable(isLate) {
  return {
    message: isLate
      ? `The server did not answer within ${REQUEST_MS_MAX / 1000} s.`
      : "The server of the console cannot be reached.",
    remedy: "Check that the controller, or orbctl console, is running.",
  };
}
