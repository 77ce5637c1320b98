// The studio: one design, drawn again whenever it changes. Everything else on the page reads it or writes it.

import { Problem } from "./api.js";
import { Batches } from "./batches.js";
import { blankDesign, fromFragment, fromRequest, layoutOf, nameRepeat, toFragment, toRequest } from "./design.js";
import { Models } from "./models.js";
import { Orders } from "./orders.js";
import { Palette } from "./palette.js";
import { choosePreviewSize, drawPreview, fillPalette, findUsedColours, loadImage } from "./preview.js";
import { wireShell } from "./shell.js";
import { Stage } from "./stage.js";
import { Templates } from "./templates.js";
import { Variations, randomSeed } from "./variations.js";

const TYPING_REST_MS = 200;
const DRAGGING_REST_MS = 70;
const EXAMPLES = {
  Daisies: "white daisies with yellow centres on green, half-drop",
  "Polka dots": "red polka dots on white",
  Hearts: "red hearts outlined in white on pink, brick",
  Paisley: "teal paisley with gold inner shape on cream, half-drop",
  Gingham: "blue and white gingham",
  Cherries: "crimson cherries with green stems on ivory, third drop",
  Scallops: "turquoise scallops nested with navy on white",
  Camouflage: "olive, brown and black camouflage on tan",
};
const FIELDS = { prompt: "prompt", negative_prompt: "negative", seed: "seed" };

const byId = (id) => document.getElementById(id);
const form = byId("design");
const stageBox = byId("stage");

let design = blankDesign();
let shown = null; // the preview on the cloth
let drawing = null; // AbortController of the one on its way
let resting = 0;

const announce = (words) => { byId("announcer").textContent = words; };

function change(members, restMs = 0) {
  design = { ...design, ...members };
  history.replaceState(null, "", `#${toFragment(design)}`);
  clearTimeout(resting);
  resting = setTimeout(draw, restMs);
}

/** Draw the design as it is now. A newer call cancels an older one; the picture stays until the next is in. */
async function draw() {
  clearTimeout(resting);
  drawing?.abort();
  if (!design.prompt.trim()) {
    stageBox.dataset.state = "idle";
    return note("prompt", shown ? "Say what to draw." : "");
  }
  drawing = new AbortController();
  const { signal } = drawing;
  stageBox.dataset.state = "loading";
  try {
    const preview = await drawPreview(design, choosePreviewSize(stage.tilePx * devicePixelRatio), signal);
    signal.throwIfAborted();
    present(preview);
  } catch (error) {
    if (error.name !== "AbortError") complain(error);
    else if (!signal.aborted) complain(new Problem(error.message, { retryAfterMs: 1000 }));
  }
}

function present(preview) {
  shown = preview;
  clearNotes();
  const { repeat } = preview.spec;
  const words = `${preview.spec.prompt}, ${nameRepeat(repeat)}, ${repeat.units} across`;
  document.title = `${preview.spec.prompt} – Halfdrop Studio`;
  Object.assign(stageBox.dataset, { state: "ready", key: preview.key, px: String(preview.image.naturalWidth) });
  stage.show(preview.url, repeat, `Seamless pattern: ${words}`);
  palette.show(preview.palette, design.overrides, findUsedColours(preview.image, preview.palette));
  byId("selvedge-text").textContent = `Halfdrop Studio  –  ${words}  –  seed ${preview.spec.seed}`;
  if (design.layout === "auto") showUnits(repeat.units);
  showTiming(preview);
  note("prompt", describeWording(preview));
  announce(`Drawn: ${words}`);
  variations.show(design);
}

/** What was read otherwise than it was written, and what was left out; "" where every word is known. */
function describeWording({ readAs, unknownWords }) {
  const lines = Object.entries(readAs).map(([word, thing]) => `“${word}” read as ${thing}.`);
  const left = unknownWords.map((word) => `“${word}”`).join(", ");
  if (left) lines.push(`Not in the model’s vocabulary: ${left}. The rest was drawn.`);
  return lines.join(" ");
}

function showTiming({ hit, from, elapsedMs }) {
  const chip = byId("timing");
  chip.hidden = false;
  chip.className = `chip ${hit ? "hit" : "miss"}`;
  const time = Object.assign(document.createElement("b"), { textContent: `${elapsedMs < 10 ? elapsedMs.toFixed(1) : Math.round(elapsedMs)} ms` });
  chip.replaceChildren(hit ? `hit${from ? `, ${from}` : ""}  ` : "drawn  ", time);
}

/** Put a problem next to the field it is about, or over the cloth; try again by itself where that can help. */
function complain(problem) {
  stageBox.dataset.state = "error";
  clearNotes();
  if (!note(problem.field, problem.advice, true)) {
    byId("trouble").textContent = problem.message;
    byId("trouble").hidden = false;
  }
  if (problem.retryAfterMs) resting = setTimeout(draw, problem.retryAfterMs);
}

/** Write a note below a field such as "palette[2]" or "repeat.units"; false if the page has no such field. */
function note(field, words, isBad = false) {
  const name = field.split(/[.[]/)[0];
  const line = name && document.querySelector(`[data-note="${CSS.escape(name)}"]`);
  if (!line) return false;
  line.textContent = words;
  line.classList.toggle("bad", isBad);
  byId(FIELDS[name])?.setAttribute("aria-invalid", String(isBad));
  if (isBad) {
    line.closest("details")?.setAttribute("open", "");
    line.scrollIntoView({ block: "nearest" });
  }
  return true;
}

function clearNotes() {
  for (const line of document.querySelectorAll("[data-note]")) line.textContent = "";
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  byId("trouble").hidden = true;
}

function showUnits(units) {
  form.elements.units.value = units;
  byId("units-out").textContent = units;
}

/** Write the design into the form, after a link, an example or an old order brought a new one. */
function fillForm() {
  const { prompt, negative, seed, layout, units, steps, guidance } = design;
  templates.show(design.template);
  for (const [name, value] of Object.entries({ prompt, negative, seed, layout, steps, guidance })) form.elements[name].value = value;
  showUnits(units);
  byId("steps-out").textContent = steps;
  byId("guidance-out").textContent = guidance;
  form.elements.guidance.disabled = !negative.trim();
  if (negative || steps !== blankDesign().steps) byId("finer").open = true;
}

function takeUp(next) {
  design = { ...blankDesign(), ...next, leastColours: templates.leastColours(next.template) };
  fillForm();
  change({});
}

function wireForm() {
  const { prompt, negative, seed, units, steps, guidance } = form.elements;
  prompt.addEventListener("input", () => change({ prompt: prompt.value }, TYPING_REST_MS));
  negative.addEventListener("input", () => {
    guidance.disabled = !negative.value.trim(); // without anything to keep out, strictness changes nothing
    change({ negative: negative.value }, TYPING_REST_MS);
  });
  seed.addEventListener("input", () => {
    if (/^\d+$/.test(seed.value.trim())) change({ seed: Number(seed.value) }, TYPING_REST_MS);
    else note("seed", "A seed is a whole number from 0 to 4294967295.", true);
  });
  byId("layouts").addEventListener("change", (event) => change({ layout: event.target.value, units: Number(units.value) }));
  units.addEventListener("input", () => {
    byId("units-out").textContent = units.value;
    // The number of units is part of a repeat, so moving it settles a repeat that was read from the prompt.
    const layout = design.layout === "auto" && shown ? settleLayout(shown.spec.repeat) : design.layout;
    form.elements.layout.value = layout;
    change({ layout, units: Number(units.value) }, DRAGGING_REST_MS);
  });
  for (const [name, slider] of Object.entries({ steps, guidance })) {
    slider.addEventListener("input", () => {
      byId(`${name}-out`).textContent = slider.value;
      change({ [name]: Number(slider.value) }, DRAGGING_REST_MS);
    });
  }
  prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    draw();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); draw(); });
}

function settleLayout(repeat) {
  const layout = layoutOf(repeat);
  return layout === "auto" ? "straight" : layout;
}

function setSeed(seed) {
  form.elements.seed.value = seed;
  change({ seed });
}

async function order() {
  const button = byId("order-button");
  if (button.disabled) return;
  button.disabled = true;
  note("order", "");
  try {
    const palette = models.chosen ? [] : await fillPalette(design);
    const input = { ...toRequest(design, palette), size_px: Number(byId("order").elements.size.value) };
    await orders.order(models.fit(input, design.overrides));
    shell.openOrders();
    announce("Ordered.");
  } catch (problem) {
    if (!note(problem.field ?? "", problem.advice, true)) note("order", problem.message, true);
  } finally {
    button.disabled = false;
  }
}

const stage = new Stage({
  onZoom: async (devicePx) => {
    const wanted = choosePreviewSize(devicePx);
    if (!shown || wanted <= Number(stageBox.dataset.px)) return;
    stageBox.dataset.px = String(wanted);
    const { key } = shown;
    const url = `/p/${key}.webp?px=${wanted}`;
    await loadImage(url).catch(() => null);
    if (shown.key === key) stage.sharpen(url);
  },
});
const palette = new Palette({
  onPick: (role, colour) => change({ overrides: design.overrides.with(role, colour) }, colour ? DRAGGING_REST_MS : 0),
});
const variations = new Variations({ onPick: setSeed });
const orders = new Orders({
  onRecall: (input) => takeUp(fromRequest(input)),
  onChange: (prediction, active, isNews) => {
    byId("orders-toggle").textContent = active ? `Orders · ${active} on the way` : "Orders";
    if (isNews) announce(`${prediction.input.prompt}: ${prediction.status}`);
  },
});
const templates = new Templates({
  onChange: (template) => change({ template, leastColours: templates.leastColours(template) }),
  onSize: (sizePx, dpi) => stage.measureFor(sizePx, dpi),
});
const models = new Models();
const batches = new Batches({ onChange: announce });
const shell = wireShell({ stage, order, shuffle: () => setSeed(randomSeed()), announce });

wireForm();
byId("shuffle").addEventListener("click", () => setSeed(randomSeed()));
byId("more-seeds").addEventListener("click", () => { variations.reseed(design.seed); variations.show(design); });
byId("order").addEventListener("submit", (event) => { event.preventDefault(); order(); });
byId("examples").append(...Object.entries(EXAMPLES).map(([name, words]) => {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: name, title: words });
  button.addEventListener("click", () => takeUp({ prompt: words, template: design.template }));
  return button;
}));
addEventListener("hashchange", () => takeUp(fromFragment(location.hash)));
takeUp(location.hash.length > 1 ? fromFragment(location.hash) : { prompt: EXAMPLES.Daisies });
templates.load().then(
  () => { if (design.template) change({ leastColours: templates.leastColours(design.template) }); },
  (problem) => note("template", problem.message, true),
);
models.load().catch((problem) => note("model", problem.message, true));
Promise.all([orders.load(), batches.load()]).catch((problem) => note("order", problem.message, true));
