// The orders of this edge: a card for each, kept current by its event stream, or by polling where streams run out.

import { call } from "./api.js";
import { sayDuration } from "./words.js";

const STREAMS_MAX = 2;
/** A browser opens six HTTP/1.1 connections per host; two streams leave four for pictures. Other orders are polled. */
const POLL_MS = 2000;
const FINAL = ["succeeded", "failed", "canceled"];
const STAGE_WORDS = { "": "working", svg: "drawing the SVG", proof: "drawing the proof" };

export class Orders {
  #list = document.getElementById("orders-list");
  #older = document.getElementById("orders-older");
  #predictions = new Map();
  #cards = new Map();
  #streams = new Map();
  #next = null;
  #isPolling = false;
  #onRecall;
  #onChange;

  /** `onRecall(input)` takes an order's design back to the bench; `onChange(prediction, active)` follows every change. */
  constructor({ onRecall, onChange }) {
    this.#onRecall = onRecall;
    this.#onChange = onChange;
    this.#older.addEventListener("click", () => this.#page(this.#next));
    setInterval(() => this.#poll(), POLL_MS);
  }

  /** Read the newest orders, so that a reload loses nothing. Throws Problem. */
  async load() {
    await this.#page("");
  }

  /** Order print files for a request body. Returns the prediction. Throws Problem. */
  async order(input) {
    const { body } = await call("/v1/predictions", { method: "POST", body: { input } });
    this.#apply(body, { isNew: true });
    return body;
  }

  get activeCount() {
    return [...this.#predictions.values()].filter((p) => !FINAL.includes(p.status)).length;
  }

  /** `search` is "" for the newest orders, or what the page before named as the query of the next. */
  async #page(search) {
    const { body } = await call(`/v1/predictions${search}`);
    for (const prediction of body.results) this.#apply(prediction);
    this.#next = body.next ? new URL(body.next, location.href).search : null;
    this.#older.hidden = !this.#next;
  }

  #apply(prediction, { isNew = false } = {}) {
    const known = this.#predictions.get(prediction.id);
    if (known && FINAL.includes(known.status)) return;
    this.#predictions.set(prediction.id, prediction);
    const card = this.#cards.get(prediction.id) ?? this.#addCard(prediction, isNew);
    paintCard(card, prediction);
    document.getElementById("orders-empty").hidden = true;
    if (FINAL.includes(prediction.status)) this.#unfollow(prediction.id);
    else this.#follow(prediction.id);
    if (known?.status !== prediction.status) this.#onChange(prediction, this.activeCount, Boolean(known) || isNew);
  }

  #addCard(prediction, isNew) {
    const card = document.getElementById("order-card").content.firstElementChild.cloneNode(true);
    card.dataset.id = prediction.id;
    card.querySelector(".card-title").textContent = prediction.input.prompt;
    card.querySelector(".recall").addEventListener("click", () => this.#onRecall(prediction.input));
    card.querySelector(".cancel").addEventListener("click", () => this.#cancel(prediction.id));
    this.#cards.set(prediction.id, card);
    if (isNew) this.#list.prepend(card);
    else this.#list.append(card);
    return card;
  }

  async #cancel(id) {
    const card = this.#cards.get(id);
    card.querySelector(".cancel").disabled = true;
    try {
      this.#apply((await call(`/v1/predictions/${id}/cancel`, { method: "POST" })).body);
    } catch (problem) {
      card.querySelector(".cancel").disabled = false;
      card.querySelector(".card-state").textContent = problem.message;
    }
  }

  #follow(id) {
    if (this.#streams.has(id) || this.#streams.size >= STREAMS_MAX) return;
    const stream = new EventSource(`/v1/predictions/${id}/stream`);
    const take = (event) => this.#apply(JSON.parse(event.data));
    stream.addEventListener("status", take);
    stream.addEventListener("completed", (event) => { this.#unfollow(id); take(event); });
    // While it is CONNECTING the browser tries again by itself; CLOSED is final, and polling takes over.
    stream.addEventListener("error", () => { if (stream.readyState === EventSource.CLOSED) this.#unfollow(id); });
    this.#streams.set(id, stream);
  }

  #unfollow(id) {
    this.#streams.get(id)?.close();
    this.#streams.delete(id);
  }

  async #poll() {
    if (this.#isPolling) return; // a slow edge must not gather rounds
    this.#isPolling = true;
    try {
      for (const { id, status } of this.#predictions.values()) {
        const isStreamed = this.#streams.get(id)?.readyState === EventSource.OPEN;
        if (!FINAL.includes(status) && !isStreamed) this.#apply((await call(`/v1/predictions/${id}`)).body);
      }
    } catch {
      // The edge is away, and the stage says so; the next round asks again.
    } finally {
      this.#isPolling = false;
    }
  }
}

function paintCard(card, prediction) {
  const isFinal = FINAL.includes(prediction.status);
  const { step = 0, steps = 0 } = prediction.progress ?? {};
  card.dataset.status = prediction.status;
  card.querySelector(".card-state").textContent = describe(prediction);
  const bar = card.querySelector("progress");
  bar.hidden = isFinal;
  bar.value = steps ? step / steps : 0;
  paintThumb(card.querySelector(".thumb"), prediction);
  card.querySelector(".cancel").hidden = isFinal;
  if (prediction.output || prediction.gates) card.querySelector(".files").replaceChildren(...listFiles(prediction));
}

/** While it is sampled, what it looks like so far: the preview is there before it, so nothing flickers. */
function paintThumb(thumb, prediction) {
  const picture = prediction.progress?.picture;
  const address = picture ? new URL(picture, location.href) : null; // behind a proxy the edge may not know its own name
  const path = address ? address.pathname + address.search : `/p/${prediction.pattern_key}.webp?px=256`;
  const isUnpainted = prediction.input.unit_px && !prediction.output; // a user's model has no preview before its order
  if (thumb.dataset.path === path || (isUnpainted && !picture)) return;
  thumb.dataset.path = path;
  const image = new Image();
  image.onload = () => { if (thumb.dataset.path === path) thumb.style.backgroundImage = `url("${path}")`; };
  image.src = path;
}

/** One line on where an order is: "4096 px · separations, step 5 of 8". */
export function describe(prediction) {
  const template = prediction.template ? `${prediction.template.split("@")[0]} · ` : "";
  const size = `${template}${prediction.input.size_px ?? 4096} px`;
  const { step = 0, steps = 0, stage = "" } = prediction.progress ?? {};
  if (prediction.status === "succeeded") return `${size} · ready in ${elapsed(prediction)}`;
  if (prediction.status === "failed") return `${size} · failed: ${prediction.error ?? "no reason given"}`;
  if (prediction.status === "canceled") return `${size} · canceled`;
  const why = prediction.reason ? ` (${prediction.reason})` : "";
  if (prediction.state === "retrying") return `${size} · trying again, attempt ${prediction.attempt}${why}`;
  const left = prediction.eta_seconds > 1 ? `, about ${sayDuration(prediction.eta_seconds)} left` : "";
  if (prediction.status === "processing") return `${size} · ${STAGE_WORDS[stage] ?? stage}, step ${step} of ${steps}${left}`;
  const place = prediction.queue_position > 0 ? `, ${prediction.queue_position} before it` : "";
  const start = prediction.starts_in_seconds > 1 ? `, starts in about ${sayDuration(prediction.starts_in_seconds)}` : "";
  return `${size} · waiting${place}${start}${why}`;
}

function fileName(url) {
  return decodeURIComponent(new URL(url, location.href).pathname.split("/").at(-1));
}

function elapsed({ created_at: from, completed_at: to }) {
  const seconds = (Date.parse(to) - Date.parse(from)) / 1000;
  return seconds < 90 ? `${seconds.toFixed(1)} s` : sayDuration(seconds);
}

const FILE_WORDS = {
  "master.tiff": "Master, TIFF", "indexed.tiff": "TIFF, indexed inks", "separated.tiff": "TIFF, a channel for each ink",
  "trapped.tiff": "TIFF, trapped", "pattern.ai": "Illustrator", "knockout.svg": "SVG, knocked out", "master.webp": "WebP",
  "inks.json": "Inks as data", "separations.png": "Separations, a sheet", "repeat.png": "Repeat with dimensions", "proof.pdf": "Proofs as PDF",
};

function listFiles({ output, input, gates }) {
  const size = input.size_px ?? 4096;
  const files = output ? [[output.master, `Master, ${size} × ${size} px PNG`]] : [];
  if (output) {
    files.push(...(output.separations ?? []).map((url, at) => [url, `Plate ${at + 1}`]));
    files.push([output.svg, "SVG, all layers"], [output.proof, "Proof, 3 × 3 repeats"], [output.pdf, "PDF, spot colours"]);
    files.push(...[...(output.tiff ?? []), ...(output.more ?? [])].map((url) => [url, FILE_WORDS[fileName(url)] ?? fileName(url)]));
  }
  if (gates) files.push([gates.report, "Gate report"], ...gates.pictures.map((url) => [url, `What did not pass: ${fileName(url).slice(5, -4)}`]));
  return files.filter(([url]) => url).map(([url, words]) => {
    const path = new URL(url, location.href).pathname; // behind a proxy the edge may not know its own name
    const name = decodeURIComponent(path.split("/").at(-1));
    const link = Object.assign(document.createElement("a"), { href: path, download: name, title: name });
    const hex = /([0-9a-f]{6})\.png$/i.exec(name)?.[1];
    if (hex) {
      const chip = document.createElement("i");
      chip.style.backgroundColor = `#${hex}`;
      link.append(chip);
    }
    link.append(words);
    const item = document.createElement("li");
    item.append(link);
    return item;
  });
}
