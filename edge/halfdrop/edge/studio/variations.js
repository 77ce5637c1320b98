// Four seeds side by side. They are drawn one after another and only when the bench is at rest: the picture on the
// stage always goes first.

import { drawPreview } from "./preview.js";

const THUMB_PX = 128;
const REST_MS = 350;
const SEED_MAX = 2 ** 32 - 1;

export function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000; // six digits can be read out over a telephone
}

export class Variations {
  #box = document.getElementById("variations");
  #seeds = [];
  #buttons = [];
  #drawing = null;

  /** `onPick(seed)` is called when a variation is chosen. */
  constructor({ onPick }) {
    this.#buttons = Array.from({ length: 4 }, (_, place) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.addEventListener("click", () => onPick(this.#seeds[place]));
      return button;
    });
    this.#box.append(...this.#buttons);
  }

  /** Choose three other seeds beside `seed`. */
  reseed(seed) {
    this.#seeds = this.#buttons.map((_, place) => (place === 0 ? seed : randomSeed()));
  }

  /** Show the variations of a design. Throws nothing: a thumbnail that cannot be drawn stays as it was. */
  async show(design) {
    this.#drawing?.abort();
    this.#drawing = new AbortController();
    const { signal } = this.#drawing;
    if (!this.#seeds.includes(design.seed)) this.#seeds = nextSeeds(design.seed, this.#buttons.length);
    this.#label(design.seed);
    try {
      await new Promise((resolve) => { setTimeout(resolve, REST_MS); });
      for (const [place, button] of this.#buttons.entries()) {
        signal.throwIfAborted();
        const { url } = await drawPreview({ ...design, seed: this.#seeds[place] }, THUMB_PX, signal);
        button.style.backgroundImage = `url("${url}")`;
      }
    } catch {
      // Overtaken by a newer design, or the edge is busy: the stage reports that, four thumbnails need not.
    }
  }

  #label(current) {
    this.#buttons.forEach((button, place) => {
      const seed = this.#seeds[place];
      button.setAttribute("aria-pressed", String(seed === current));
      button.setAttribute("aria-label", `Seed ${seed}`);
      button.title = `Seed ${seed}`;
    });
  }
}

function nextSeeds(seed, count) {
  return Array.from({ length: count }, (_, place) => (seed + place) % (SEED_MAX + 1));
}
