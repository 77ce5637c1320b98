// Talking to the edge. Every failure becomes a Problem, with the server's own words and the field they are about.

const GOT_MAX_CHARS = 24;

/**
 * What went wrong: `field` is "" when no single field is to blame; `retryAfterMs` is null when a retry cannot help;
 * `errors` says which lines of a batch are wrong, and how.
 * `advice` is for a note beside the field, where its name need not be said again.
 */
export class Problem extends Error {
  constructor(detail, { field = "", got = "", allowed = "", retryAfterMs = null, errors = [] } = {}) {
    super(detail);
    this.field = field.replace(/^input\./, "");
    this.advice = allowed ? `Allowed: ${allowed}. Got: ${shorten(got)}` : detail;
    this.retryAfterMs = retryAfterMs;
    this.errors = errors;
  }
}

function shorten(text) {
  return text.length <= GOT_MAX_CHARS ? `“${text}”` : `“${text.slice(0, GOT_MAX_CHARS)}…”`;
}

const AWAY = "The edge does not answer. Is it still running?";
const RETRY_WHEN_AWAY_MS = 2000;

/**
 * Send a request and return {body, headers}. Throws Problem, or AbortError when `signal` fires.
 * @param {string} path
 * @param {{method?: string, body?: object | File, type?: string, signal?: AbortSignal, isRetry?: boolean}} [options]
 */
export async function call(path, { method = "GET", body, type = "application/json", signal, isRetry = false } = {}) {
  const headers = { Accept: "application/json" };
  if (body) headers["Content-Type"] = type;
  const data = body && type === "application/json" ? JSON.stringify(body) : body;
  let response;
  try {
    response = await fetch(path, { method, headers, body: data, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(AWAY, { retryAfterMs: RETRY_WHEN_AWAY_MS });
  }
  if (response.status === 401 && !isRetry && askForKey()) return call(path, { method, body, type, signal, isRetry: true });
  if (!response.ok) throw await readProblem(response);
  return { body: await response.json(), headers: response.headers };
}

let hasAsked = false;

/**
 * Ask once for an API key, and keep it in a cookie for this session of the browser: pictures and event streams can carry
 * nothing else. SameSite=Strict keeps other sites from using it. Returns whether there is one to try now.
 */
function askForKey() {
  if (!hasAsked) {
    hasAsked = true;
    const key = window.prompt("This edge asks for an API key:")?.trim() ?? "";
    const isSecure = location.protocol === "https:";
    if (/^[\w-]+$/.test(key)) document.cookie = `halfdrop_key=${key}; path=/; SameSite=Strict${isSecure ? "; Secure" : ""}`;
  }
  return document.cookie.includes("halfdrop_key="); // several requests may be refused before the one answer is there
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
  const { field, got, allowed, errors } = document;
  return new Problem(words, { field, got, allowed, retryAfterMs, errors });
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
