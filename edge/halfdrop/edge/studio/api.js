// Talking to the edge. Every failure becomes a Problem, with the server's own words and the field they are about.

/** What went wrong: `field` is "" when no single field is to blame; `retryAfterMs` is null when a retry cannot help. */
export class Problem extends Error {
  constructor(detail, { field = "", status = 0, retryAfterMs = null } = {}) {
    super(detail);
    this.field = field.replace(/^input\./, "");
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

const AWAY = "The edge does not answer. Is it still running?";
const RETRY_WHEN_AWAY_MS = 2000;

/**
 * Send a request and return {body, headers}. Throws Problem, or AbortError when `signal` fires.
 * @param {string} path
 * @param {{method?: string, body?: object, signal?: AbortSignal}} [options]
 */
export async function call(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(AWAY, { retryAfterMs: RETRY_WHEN_AWAY_MS });
  }
  if (!response.ok) throw await readProblem(response);
  return { body: await response.json(), headers: response.headers };
}

async function readProblem(response) {
  const after = Number(response.headers.get("Retry-After"));
  const retryAfterMs = [429, 503].includes(response.status) ? (after > 0 ? after * 1000 : RETRY_WHEN_AWAY_MS) : null;
  let document = {};
  try {
    document = await response.json();
  } catch {
    // A proxy in between may answer in HTML; the status line is all there is then.
  }
  const words = document.detail || document.title || `The edge answered ${response.status} ${response.statusText}`;
  return new Problem(words, { field: document.field ?? "", status: response.status, retryAfterMs });
}

/**
 * Read RFC 9211 Cache-Status into {hit, from}: `halfdrop; hit; detail=memory` is {hit: true, from: "memory"}.
 * @param {string | null} header
 */
export function readCacheStatus(header) {
  const parts = (header ?? "").split(";").map((part) => part.trim());
  const detail = parts.find((part) => part.startsWith("detail="))?.slice("detail=".length) ?? "";
  return { hit: parts.includes("hit"), from: detail.replaceAll('"', "") };
}
