// The design on the bench: what the form says, as one value; its place in the address bar; its form on the wire.

export const ROLES = ["Ground", "Layer 1", "Layer 2", "Layer 3", "Layer 4"];
const DEFAULTS = { prompt: "", negative: "", seed: 0, layout: "auto", units: 4, steps: 2, guidance: 1.5, template: "" };
const REPEATS = {
  straight: { layout: "straight" },
  "half-drop": { layout: "half-drop" },
  brick: { layout: "brick" },
  "third-drop": { layout: "drop", drop: "1/3", axis: "columns" },
  mirror: { layout: "mirror" },
};
const HEX = /^#[0-9a-f]{6}$/;

/** An untouched bench. `overrides` holds the user's colour for each role, or null for the model's. */
export function blankDesign() {
  return { ...DEFAULTS, overrides: ROLES.map(() => null) };
}

/** The body that both previews and orders carry. `palette` replaces the model's colours in order of role. */
export function toRequest(design, palette) {
  const request = { prompt: design.prompt, seed: design.seed };
  if (design.layout !== "auto") request.repeat = { ...REPEATS[design.layout], units: design.units };
  if (palette.length) request.palette = palette;
  if (design.template) request.template = design.template;
  if (design.steps !== DEFAULTS.steps) request.num_inference_steps = design.steps;
  if (design.negative.trim()) Object.assign(request, { negative_prompt: design.negative, guidance_scale: design.guidance });
  return request;
}

/** The bench for a pattern that the edge knows, so that an old order can be taken up again. */
export function fromRequest(input) {
  const design = blankDesign();
  const palette = input.palette ?? [];
  design.prompt = input.prompt ?? "";
  design.negative = input.negative_prompt ?? "";
  design.seed = input.seed ?? 0;
  design.steps = input.num_inference_steps ?? DEFAULTS.steps;
  design.guidance = design.negative ? (input.guidance_scale ?? DEFAULTS.guidance) : DEFAULTS.guidance;
  design.overrides = ROLES.map((_, role) => palette[role] ?? null);
  if (input.repeat) {
    design.layout = layoutOf(input.repeat);
    design.units = input.repeat.units ?? DEFAULTS.units;
  }
  return design;
}

/** The radio button that stands for a repeat of the edge; other drops than a third show as "as described". */
export function layoutOf(repeat) {
  if (repeat.layout !== "drop") return repeat.layout;
  return repeat.drop === "1/3" && repeat.axis !== "rows" ? "third-drop" : "auto";
}

/** A repeat in words: "half-drop", "drop of 1/3". */
export function nameRepeat(repeat) {
  return repeat.layout === "drop" ? `drop of ${repeat.drop}` : repeat.layout;
}

/**
 * The design as a fragment. A fragment and not a query: the prompt is the designer's, and a fragment never
 * reaches a server or its logs.
 */
export function toFragment(design) {
  const parameters = new URLSearchParams();
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    const isRead = name === "units" && design.layout === "auto";
    if (design[name] !== usual && !isRead) parameters.set(name, String(design[name]));
  }
  if (design.overrides.some(Boolean)) parameters.set("palette", design.overrides.map((c) => c?.slice(1) ?? "").join("."));
  return parameters.toString();
}

/** The design of a fragment; anything that makes no sense is left at its default. */
export function fromFragment(fragment) {
  const parameters = new URLSearchParams(fragment.replace(/^#/, ""));
  const design = blankDesign();
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    if (!parameters.has(name)) continue;
    const text = parameters.get(name);
    if (typeof usual === "string") design[name] = text;
    else if (Number.isFinite(Number(text))) design[name] = Number(text);
  }
  if (design.layout !== "auto" && !REPEATS[design.layout]) design.layout = "auto";
  const colours = (parameters.get("palette") ?? "").split(".").map((c) => `#${c.toLowerCase()}`);
  design.overrides = ROLES.map((_, role) => (HEX.test(colours[role] ?? "") ? colours[role] : null));
  return design;
}
