/**
 * Reads the JSON API of the console.
 *
 * Paths are relative to the page, so that a reverse proxy can serve the console below any path.
 * Only `send` writes: an action on a workflow execution, if the server allows them.
 */

import { token } from "./access.js";

const ROOT = new URL("api/v1/", document.baseURI);

export const REQUEST_MS_MAX = 15_000;

/** An error answer of the server. `status` 0: the server does not answer. */
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

/** Reads a resource as JSON. Throws ApiError, and AbortError after `signal`. */
export async function read(parts, query = {}, signal = undefined) {
  const response = await request(urlOf(parts, query), { headers: headers("application/json") }, signal);
  return response.json();
}

/** Posts a document. Throws ApiError, and AbortError after `signal`. */
export async function send(parts, document, signal = undefined) {
  await request(urlOf(parts), {
    method: "POST",
    body: JSON.stringify(document),
    headers: { ...headers("application/json"), "content-type": "application/json" },
  }, signal);
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

/** Reads a resource; null if the server has no such object. */
export async function readIfAny(parts, query, signal) {
  try {
    return await read(parts, query, signal);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** The headers of a request, with the token if the user entered one. */
export function headers(accept) {
  return token() ? { accept, authorization: `Bearer ${token()}` } : { accept };
}

/** The error in an answer of the API; of another answer, its status as text. */
export async function refusal(response) {
  const plain = { message: `The server answered ${response.status} ${response.statusText}.` };
  try {
    const body = await response.json();
    return body.error?.message ? body.error : plain;
  } catch {
    return plain; // not JSON: the error page of a proxy
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
