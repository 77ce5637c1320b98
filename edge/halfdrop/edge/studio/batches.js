// Batches: a file of orders sent as one, and a card that tells how far each is. They live in the orders' drawer.

import { call } from "./api.js";
import { sayDuration } from "./words.js";

const POLL_MS = 1500;
const OVER = ["completed", "canceled"];

export class Batches {
  #list = document.getElementById("batches-list");
  #note = document.getElementById("batches-note");
  #batches = new Map();
  #isPolling = false;
  #onChange;

  /** `onChange(words)` is told what a screen reader should say. */
  constructor({ onChange }) {
    this.#onChange = onChange;
    const input = document.getElementById("batch-file");
    input.addEventListener("change", async () => {
      const [file] = input.files;
      if (file) await this.#send(file);
      input.value = ""; // the same file can be chosen again once it is mended
    });
    setInterval(() => this.#poll(), POLL_MS);
  }

  /** Read the newest batches. Throws Problem. */
  async load() {
    const { body } = await call("/v1/batches");
    for (const batch of body.results.reverse()) this.#apply(batch);
  }

  async #send(file) {
    this.#say(`Sending ${file.name} …`);
    try {
      const { body } = await call("/v1/batches", { method: "POST", body: file, type: "application/jsonl" });
      this.#apply(body);
      const { refused } = body.counts;
      this.#say(refused ? `${refused} of ${body.counts.total} lines were refused; their card says why.` : "");
      this.#onChange(`${body.counts.total - refused} orders taken from ${file.name}.`);
    } catch (problem) {
      this.#say(describeRefusal(problem), true);
    }
  }

  #say(words, isBad = false) {
    this.#note.textContent = words;
    this.#note.classList.toggle("bad", isBad);
  }

  #apply(batch) {
    const known = this.#batches.get(batch.id);
    const card = known?.card ?? this.#addCard(batch);
    this.#batches.set(batch.id, { batch, card });
    paint(card, batch);
    if (known && known.batch.status !== batch.status) this.#onChange(`Batch ${batch.status}: ${describeBatch(batch)}`);
  }

  #addCard(batch) {
    const card = document.getElementById("batch-card").content.firstElementChild.cloneNode(true);
    card.dataset.id = batch.id;
    const made = new Date(batch.created_at);
    card.querySelector(".card-title").textContent = `Batch of ${made.toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}`;
    for (const verb of ["pause", "resume", "cancel"]) card.querySelector(`.${verb}`).addEventListener("click", () => this.#act(batch.id, verb));
    this.#list.prepend(card);
    return card;
  }

  async #act(id, verb) {
    try {
      this.#apply((await call(`/v1/batches/${id}/${verb}`, { method: "POST" })).body);
    } catch (problem) {
      this.#say(problem.message, true);
    }
  }

  async #poll() {
    if (this.#isPolling) return;
    this.#isPolling = true;
    try {
      for (const { batch } of this.#batches.values()) {
        if (!OVER.includes(batch.status)) this.#apply((await call(`/v1/batches/${batch.id}`)).body);
      }
    } catch {
      // The edge is away, and the stage says so; the next round asks again.
    } finally {
      this.#isPolling = false;
    }
  }
}

function paint(card, batch) {
  const isOver = OVER.includes(batch.status);
  card.dataset.status = batch.status;
  card.querySelector(".card-state").textContent = describeBatch(batch);
  const bar = card.querySelector("progress");
  bar.hidden = isOver;
  bar.value = batch.progress;
  card.querySelector(".pause").hidden = batch.status !== "running";
  card.querySelector(".resume").hidden = batch.status !== "paused";
  card.querySelector(".cancel").hidden = isOver || batch.status === "canceling";
  const { completed, failed, refused } = batch.counts;
  showLink(card.querySelector(".zip"), completed > 0, batch.urls.results, "?format=zip");
  showLink(card.querySelector(".lines"), completed + failed > 0, batch.urls.results, "");
  showLink(card.querySelector(".errors"), refused > 0, batch.urls.errors, "");
}

function showLink(link, isShown, url, query) {
  link.hidden = !isShown;
  link.href = new URL(url, location.href).pathname + query; // behind a proxy the edge may not know its own name
}

/** One line on where a batch is: "120 of 500 ready, 2 failed, about 4 min left". */
export function describeBatch({ counts, status, status_reason: why, eta_seconds: left }) {
  const parts = [`${counts.completed} of ${counts.total - counts.refused} ready`];
  for (const name of ["failed", "canceled", "refused"]) if (counts[name]) parts.push(`${counts[name]} ${name}`);
  if (status === "running" && left > 1) parts.push(`about ${sayDuration(left)} left`);
  if (status === "canceling") parts.push("stopping");
  if (why) parts.push(why);
  return parts.join(", ");
}

function describeRefusal(problem) {
  const [first] = problem.errors ?? [];
  return first ? `${problem.message}. Line ${first.line}: ${first.detail}` : problem.message;
}
