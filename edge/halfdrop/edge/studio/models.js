// Models that users imported, as the pools tell of them: a choice in the order panel, hidden where there is none.

import { call } from "./api.js";

const LOOK_MS = 10_000;

export class Models {
  #box = document.getElementById("models");
  #select = document.getElementById("model");
  #about = document.getElementById("model-about");
  #known = new Map();

  constructor() {
    this.#select.addEventListener("change", () => this.#describe());
    setInterval(() => this.load().catch(() => null), LOOK_MS); // a worker may come, or an import
  }

  /** Read which there are. Throws Problem. */
  async load() {
    const { body } = await call("/v1/models");
    this.#known = new Map(body.data.filter(({ kind }) => kind === "checkpoint").map((model) => [model.digest, model]));
    const chosen = this.#select.value;
    const options = [...this.#known.values()].map(({ id, digest }) => new Option(id, digest));
    this.#select.replaceChildren(new Option("the house model", ""), ...options);
    this.#select.value = this.#known.has(chosen) ? chosen : "";
    this.#box.hidden = !this.#known.size;
    this.#describe();
  }

  /** Digest of the model that is chosen; "" for the house's, which draws the previews. */
  get chosen() {
    return this.#select.value;
  }

  /**
   * The input of an order as the chosen model takes it. It chooses the size where no template does, and its steps: what
   * the form says of both is meant for the house model. Colours are those that the designer has set, from the ground on.
   */
  fit(input, overrides) {
    if (!this.chosen) return input;
    const { size_px: size, num_inference_steps: steps, guidance_scale: guidance, ...rest } = input;
    const gap = overrides.findIndex((colour) => !colour);
    const palette = overrides.slice(0, gap < 0 ? overrides.length : gap);
    return { ...rest, palette, model: this.chosen, ...(input.template ? { size_px: size } : {}) };
  }

  #describe() {
    const model = this.#known.get(this.chosen);
    this.#about.textContent = model
      ? `Drawn by ${model.id} on a hub, in its own size. The preview is the house model’s: another picture.`
      : "";
  }
}
