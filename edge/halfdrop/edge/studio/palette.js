// Five swatches, one for each role, and their echo on the selvedge.

import { ROLES } from "./design.js";

export class Palette {
  #box = document.getElementById("palette");
  #dots = document.getElementById("selvedge-dots");
  #reset = document.getElementById("palette-reset");
  #swatches;
  #onPick;

  /** `onPick(role, colour)` is called while a colour is being chosen; a colour of null means the model's own. */
  constructor({ onPick }) {
    this.#onPick = onPick;
    this.#swatches = ROLES.map((name, role) => this.#build(name, role));
    this.#reset.addEventListener("click", () => ROLES.forEach((_, role) => onPick(role, null)));
    this.#dots.append(...ROLES.map((_, role) => Object.assign(document.createElement("span"), { textContent: role + 1 })));
  }

  /** Show the colours of a picture: which are the user's, and which cannot be seen in it. */
  show(palette, overrides, used) {
    this.#reset.hidden = !overrides.some(Boolean);
    palette.forEach((colour, role) => {
      const { box, input, hex, unpin } = this.#swatches[role];
      if (document.activeElement !== input) input.value = colour;
      hex.textContent = colour;
      unpin.hidden = !overrides[role];
      box.classList.toggle("unused", !used[role] && !overrides[role]);
      box.title = used[role] ? `${ROLES[role]}: ${colour}` : `${ROLES[role]}: not in this picture`;
      const dot = this.#dots.children[role];
      dot.style.backgroundColor = colour;
      dot.style.color = isDark(colour) ? "#ffffff" : "#1b1b1b";
      dot.hidden = !used[role] && !overrides[role];
    });
  }

  #build(name, role) {
    const box = Object.assign(document.createElement("div"), { className: "swatch" });
    const input = Object.assign(document.createElement("input"), { type: "color", value: "#d9d1c3", id: `colour-${role}` });
    input.setAttribute("aria-label", `${name}: colour`);
    const label = Object.assign(document.createElement("span"), { className: "role", textContent: name });
    const hex = Object.assign(document.createElement("span"), { className: "hex", textContent: "–" });
    const unpin = Object.assign(document.createElement("button"), { type: "button", className: "unpin", textContent: "×", hidden: true });
    unpin.setAttribute("aria-label", `${name}: back to the model’s colour`);
    input.addEventListener("input", () => this.#onPick(role, input.value));
    unpin.addEventListener("click", () => { input.focus(); input.blur(); this.#onPick(role, null); });
    box.append(input, label, hex, unpin);
    this.#box.append(box);
    return { box, input, hex, unpin };
  }
}

function isDark(hex) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b < 140;
}
