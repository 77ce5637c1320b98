// Drawing over time: what our charts share on top of uPlot (vendor/, MIT), which does the drawing itself.

import { clock, day } from "./format.js";

const uPlot = window.uPlot;
const AXIS_FONT = "12px 'Studio Sans', system-ui, sans-serif";

/** Read a colour of the page, such as colour("--ink"), with an alpha if it is to be seen through. */
export function colour(name, alpha = 1) {
  const value = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  if (alpha === 1) return value;
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(value.slice(at, at + 2), 16));
  return `rgb(${r} ${g} ${b} / ${alpha})`;
}

/**
 * A chart over time in `host`, made again when the theme changes.
 *
 * `describe()` returns {series, bands, y, under, over}: uPlot's series and bands without the times, how to write a value
 * on the axis, and functions that draw below and above the lines. `onRange(from, to)` is told of a stretch that was
 * dragged over, `onPoint(index)` of the point under the cursor, null where there is none.
 */
export class TimeChart {
  constructor(host, { describe, onRange = null, onPoint = () => {}, syncKey = null, hasTimes = true }) {
    Object.assign(this, { host, describe, onRange, onPoint, syncKey, hasTimes });
    this.data = null;
    this.hidden = new Set();
    this.plot = null;
    new ResizeObserver(() => this.#fit()).observe(host);
    new MutationObserver(() => this.#remake()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    host.addEventListener("keydown", (event) => this.#move(event));
  }

  /** Show data: times in seconds, then a column for each series; null where nothing is known. */
  show(data, { from = null, to = null } = {}) {
    this.data = data;
    this.bounds = from === null ? null : [from, to];
    if (!this.plot) return this.#remake();
    this.plot.setData(data, true);
    return undefined;
  }

  /** Show or hide the series with these numbers. */
  toggle(numbers, isShown) {
    for (const number of numbers) {
      if (isShown) this.hidden.delete(number);
      else this.hidden.add(number);
      this.plot?.setSeries(number, { show: isShown });
    }
  }

  /** Return a canvas with the chart as it is, a title above it, and the page's card behind it. */
  picture(title, subtitle) {
    const drawn = this.plot.ctx.canvas;
    const scale = devicePixelRatio;
    const made = document.createElement("canvas");
    const head = 56 * scale;
    [made.width, made.height] = [drawn.width + 32 * scale, drawn.height + head + 16 * scale];
    const ink = made.getContext("2d");
    ink.fillStyle = colour("--card");
    ink.fillRect(0, 0, made.width, made.height);
    ink.fillStyle = colour("--ink");
    ink.font = `italic ${24 * scale}px 'Studio Italic', Georgia, serif`;
    ink.fillText(title, 16 * scale, 30 * scale);
    ink.fillStyle = colour("--muted");
    ink.font = `${12 * scale}px 'Studio Sans', system-ui, sans-serif`;
    ink.fillText(subtitle, 16 * scale, 49 * scale);
    ink.drawImage(drawn, 16 * scale, head);
    return made;
  }

  #remake() {
    if (!this.data) return;
    this.plot?.destroy();
    const { series, bands = [], y, under = () => {}, over = () => {} } = this.describe();
    const options = {
      ...this.#size(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { show: false },
      cursor: {
        drag: { x: Boolean(this.onRange), y: false, setScale: false },
        points: { size: 7 },
        focus: { prox: -1 },
        ...(this.syncKey ? { sync: { key: this.syncKey, setSeries: false } } : {}),
      },
      scales: {
        x: { time: true, range: (_, low, high) => this.bounds ?? [low, high] },
        y: { range: (_, low, high) => [0, Math.max(high * 1.08, y.least ?? 1)] },
      },
      axes: [
        { stroke: colour("--muted"), font: AXIS_FONT, grid: { show: false }, ticks: { stroke: colour("--line"), size: 5 }, space: 70, size: this.hasTimes ? 38 : 8, values: (_, times) => (this.hasTimes ? times.map(tick) : []) },
        { stroke: colour("--muted"), font: AXIS_FONT, grid: { stroke: colour("--grid").trim() || colour("--line"), width: 1 }, ticks: { show: false }, size: 56, space: 34, values: (_, values) => values.map(y.write) },
      ],
      series: [{}, ...series.map((each, place) => ({ points: { show: false }, show: !this.hidden.has(place + 1), ...each }))],
      bands,
      hooks: {
        drawAxes: [(plot) => clipped(plot, under)],
        draw: [(plot) => clipped(plot, over)],
        setCursor: [(plot) => this.onPoint(plot.cursor.idx ?? null)],
        setSelect: [(plot) => this.#select(plot)],
      },
    };
    this.plot = new uPlot(options, this.data, this.host);
  }

  #size() {
    return { width: Math.max(200, this.host.clientWidth), height: Math.max(60, this.host.clientHeight) };
  }

  #fit() {
    if (this.plot && this.host.clientWidth) this.plot.setSize(this.#size());
  }

  #select(plot) {
    const { left, width } = plot.select;
    if (!this.onRange || width < 6) return;
    const from = plot.posToVal(left, "x");
    const to = plot.posToVal(left + width, "x");
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.onRange(from, to);
  }

  #move(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!steps || !this.plot) return;
    event.preventDefault();
    event.stopPropagation();
    const last = this.data[0].length - 1;
    const now = this.plot.cursor.idx ?? last;
    const place = Math.min(Math.max(now + steps * (event.shiftKey ? 10 : 1), 0), last);
    this.plot.setCursor({ left: this.plot.valToPos(this.data[0][place], "x"), top: this.plot.over.clientHeight / 2 });
  }
}

/** Write a time below the axis: the day where one begins, else the hour. */
function tick(seconds, place) {
  const isDay = seconds % 86400 === 0;
  if (isDay) return day(seconds).slice(4);
  return place === 0 ? `${clock(seconds)}\n${day(seconds).slice(4)}` : clock(seconds);
}

function clipped(plot, draw) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.textAlign = "left"; // the axes leave theirs behind
  ctx.textBaseline = "alphabetic";
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  draw(plot, ctx, bbox);
  ctx.restore();
}

/** Draw a dashed upright line at a time, with a word beside it. */
export function upright(plot, ctx, bbox, seconds, word) {
  const x = Math.round(plot.valToPos(seconds, "x", true));
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  const scale = devicePixelRatio;
  ctx.strokeStyle = colour("--muted");
  ctx.lineWidth = scale;
  ctx.setLineDash([3 * scale, 4 * scale]);
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.setLineDash([]);
  ctx.fillStyle = colour("--muted");
  ctx.font = `italic ${15 * scale}px 'Studio Italic', Georgia, serif`;
  ctx.fillText(word, x + 6 * scale, bbox.top + 14 * scale);
}

/** Shade a stretch of time, with its name on top. */
export function stretch(plot, ctx, bbox, from, to, name) {
  const left = Math.max(plot.valToPos(from, "x", true), bbox.left);
  const right = Math.min(plot.valToPos(to, "x", true), bbox.left + bbox.width);
  if (right <= left) return;
  const scale = devicePixelRatio;
  ctx.fillStyle = colour("--capacity", 0.13);
  ctx.fillRect(left, bbox.top, right - left, bbox.height);
  ctx.fillStyle = colour("--capacity");
  ctx.fillRect(left, bbox.top, right - left, 3 * scale);
  ctx.font = `italic ${14 * scale}px 'Studio Italic', Georgia, serif`;
  // A name that is much wider than its stretch would lie on the next one's.
  if (ctx.measureText(name).width < 5 * (right - left)) ctx.fillText(name, left + 5 * scale, bbox.top + 32 * scale);
}
