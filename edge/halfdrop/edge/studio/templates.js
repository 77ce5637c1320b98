// The templates of this edge: a choice in the order panel, what each is for, and the sizes that it can be ordered in.

import { call } from "./api.js";

const USUAL = { dpi: 300, sizes: [1024, 2048, 4096, 8192], chosen: 4096 };
const SHOWN_SIZES = 4;
const NO_TEMPLATE = "A print master, one plate per colour, an SVG and a 3 × 3 proof.";

export class Templates {
  #select = document.getElementById("template");
  #about = document.getElementById("template-about");
  #sizes = document.getElementById("sizes");
  #byName = new Map();
  #shown = "";
  #onSize;

  /** `onChange(name)` is told of a choice; `onSize(px, dpi)` of each size that is now ordered. */
  constructor({ onChange, onSize }) {
    this.#onSize = onSize;
    this.#select.addEventListener("change", () => { this.show(this.#select.value); onChange(this.#select.value); });
    this.#sizes.addEventListener("change", (event) => onSize(Number(event.target.value), this.#dpi));
  }

  /** Read what there is to choose. Throws Problem. */
  async load() {
    const { body } = await call("/v1/templates");
    for (const listed of body.templates) this.#byName.set(listed.template.name, listed);
    this.#select.append(...body.templates.map(({ template }) => new Option(template.title, template.name)));
    this.#select.disabled = false;
    this.show(this.#select.dataset.wanted ?? "");
  }

  /** Show a template as chosen; "" for none, as is one that this edge does not have. */
  show(name) {
    this.#select.dataset.wanted = name; // it may be asked for before the list is here
    if (!this.#byName.size) return;
    const known = this.#byName.has(name) ? name : "";
    if (known === this.#shown) return; // a size that was chosen stays
    this.#shown = known;
    this.#select.value = known;
    this.#about.textContent = this.#byName.get(known)?.template.description ?? NO_TEMPLATE;
    this.#paintSizes();
  }

  /** How few colours a palette may have with this template. */
  leastColours(name) {
    return this.#byName.get(name)?.template.order.colours?.min ?? 1;
  }

  get #dpi() {
    return this.#byName.get(this.#select.value)?.template.press.dpi ?? USUAL.dpi;
  }

  #paintSizes() {
    const listed = this.#byName.get(this.#select.value);
    const { sizes, chosen } = listed ? sizesOf(listed) : USUAL;
    const dpi = this.#dpi;
    this.#sizes.replaceChildren(...sizes.map((px) => {
      const label = document.createElement("label");
      const radio = Object.assign(document.createElement("input"), { type: "radio", name: "size", value: String(px), checked: px === chosen });
      label.append(radio, Object.assign(document.createElement("b"), { textContent: `${px} px` }));
      label.append(Object.assign(document.createElement("span"), { textContent: sayLength(px, dpi) }));
      return label;
    }));
    this.#onSize(chosen, dpi);
  }
}

function sizesOf({ sizes, template }) {
  const { min, max, default: chosen } = template.order.size_px;
  const known = sizes.length ? sizes.map(({ size_px: px }) => px) : [min, Math.round((min + chosen) / 2), chosen, max];
  const shown = [...new Set(known)].sort((one, other) => one - other).slice(-SHOWN_SIZES);
  return { sizes: shown.includes(chosen) ? shown : [chosen, ...shown.slice(1)], chosen };
}

function sayLength(px, dpi) {
  const cm = (px / dpi) * 2.54;
  return `${cm < 100 ? cm.toFixed(1) : Math.round(cm)} cm`;
}
