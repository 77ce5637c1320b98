// From a design to its picture: fill gaps in the palette, ask the edge, load the tile, and say how long it took.

import { call, readCacheStatus } from "./api.js";
import { toRequest } from "./design.js";

export const PREVIEW_SIZES_PX = [128, 256, 384, 512];
const REMEMBERED_PALETTES = 200;

/** Colours that the model chose, by prompt and template. They depend on nothing else, and spare a request for each override. */
const modelPalettes = new Map();

/** The smallest preview that is not blurred at `devicePx` across, or the largest there is. */
export function choosePreviewSize(devicePx) {
  return PREVIEW_SIZES_PX.find((size) => size >= devicePx) ?? PREVIEW_SIZES_PX.at(-1);
}

/**
 * Draw a design. Returns {key, url, spec, palette, unknownWords, readAs, hit, from, elapsedMs, image}, the image decoded.
 * Throws Problem, or AbortError when `signal` fires.
 */
export async function drawPreview(design, sizePx, signal) {
  const palette = await fillPalette(design, signal);
  const startedAt = performance.now();
  const { body, headers } = await call("/v1/previews", {
    method: "POST", body: { ...toRequest(design, palette), size_px: sizePx }, signal,
  });
  const elapsedMs = performance.now() - startedAt;
  if (!palette.length) rememberPalette(paletteName(design), body.palette);
  // Not body.url: where keys are asked for that is signed anew each time, and this browser has the key already.
  const url = `/p/${body.key}.webp?px=${sizePx}`;
  const image = await loadImage(url, signal);
  const { hit, from } = readCacheStatus(headers.get("Cache-Status"));
  const { key, spec, unknown_words: unknownWords, read_as: readAs } = body;
  return { key, url, spec, palette: body.palette, unknownWords, readAs, hit, from, elapsedMs, image };
}

/**
 * The palette member of a request. The API takes colours from the ground upwards without gaps, so a lone override of
 * layer 2 needs the model's own ground and layer 1 below it; they are asked for once per prompt.
 */
export async function fillPalette(design, signal) {
  const top = design.overrides.findLastIndex(Boolean);
  const wanted = design.overrides.slice(0, top < 0 ? 0 : Math.max(top + 1, design.leastColours ?? 1));
  if (wanted.every(Boolean)) return wanted;
  const name = paletteName(design);
  if (!modelPalettes.has(name)) {
    const body = { ...toRequest(design, []), size_px: PREVIEW_SIZES_PX[0] };
    rememberPalette(name, (await call("/v1/previews", { method: "POST", body, signal })).body.palette);
  }
  const own = modelPalettes.get(name);
  return wanted.map((colour, role) => colour ?? own[role]);
}

/** What the model's colours depend on: the words, and the template that frames them and may bring its own. */
function paletteName({ prompt, template }) {
  return `${template}\n${prompt}`;
}

function rememberPalette(name, palette) {
  modelPalettes.delete(name);
  modelPalettes.set(name, palette);
  if (modelPalettes.size > REMEMBERED_PALETTES) modelPalettes.delete(modelPalettes.keys().next().value);
}

/** Load and decode, so that the swap on the stage is instant. */
export async function loadImage(url, signal) {
  const image = new Image();
  image.src = url;
  await image.decode().catch(() => { throw new DOMException(`the tile ${url} did not load`, "AbortError"); });
  signal?.throwIfAborted();
  return image;
}

/**
 * Which palette colours can be seen in the picture. Layers that the model left empty have a colour too, and a
 * swatch that changes nothing should say so.
 */
export function findUsedColours(image, palette) {
  const side = 96, tolerance = 10, leastPixels = 6;
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, side, side);
  const { data } = context.getImageData(0, 0, side, side);
  const colours = palette.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const counts = colours.map(() => 0);
  for (let at = 0; at < data.length; at += 4) {
    const distances = colours.map(([r, g, b]) => Math.max(Math.abs(data[at] - r), Math.abs(data[at + 1] - g), Math.abs(data[at + 2] - b)));
    const nearest = Math.min(...distances);
    if (nearest > tolerance) continue; // an edge between two colours
    distances.forEach((distance, role) => { counts[role] += distance === nearest ? 1 : 0; });
  }
  return counts.map((count) => count >= leastPixels);
}
