// Talking to the forecaster. Every failure becomes a Problem, with the server's own words and the field they are about.

const AWAY = "The forecaster does not answer. Is it still running?";

/** What went wrong: `field` is "" when no single field is to blame. */
export class Problem extends Error {
  constructor(detail, { field = "", allowed = "" } = {}) {
    super(detail);
    this.field = field;
    this.advice = allowed ? `Allowed: ${allowed}.` : detail;
  }
}

/**
 * Send a request and return what it answers. Throws Problem, or AbortError when `signal` fires.
 * @param {string} path
 * @param {{method?: string, body?: object, signal?: AbortSignal, query?: object}} [options]
 */
export async function call(path, { method = "GET", body, signal, query } = {}) {
  const headers = { Accept: "application/json" };
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(withQuery(path, query), { method, headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(AWAY);
  }
  if (!response.ok) throw await readProblem(response);
  return response.status === 204 ? null : response.json();
}

/** Return `path` with those members of `query` that say something. */
export function withQuery(path, query = {}) {
  const said = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return said.length ? `${path}?${new URLSearchParams(said)}` : path;
}

/** Call `onNews` with each piece of news, and `onState` with whether the stream stands. The browser reconnects by itself. */
export function follow(onNews, onState) {
  const source = new EventSource("/v1/stream");
  source.addEventListener("news", (event) => { onState(true); onNews(JSON.parse(event.data)); });
  source.addEventListener("error", () => onState(false));
  addEventListener("pagehide", () => source.close());
}

async function readProblem(response) {
  let document = {};
  try {
    document = await response.json();
  } catch {
    // A proxy in between may answer in HTML; the status line is all there is then.
  }
  const words = document.detail || document.title || `The forecaster answered ${response.status} ${response.statusText}`;
  return new Problem(words, document);
}
