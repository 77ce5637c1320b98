// The large chart: demand, its forecast as a fan, the GPUs there were and those planned; and late jobs below it.

import { call } from "./api.js";
import { TimeChart, colour, stretch, upright } from "./chart.js";
import { element, moment, number } from "./format.js";

const AHEAD_S = { "6h": 3 * 3600, day: 10 * 3600, week: 42 * 3600, month: 6 * 86400, "90d": 14 * 86400 };
const LOW = 1, HIGH = 2, MEAN = 3, BEFORE = 4, CAPACITY = 5, PLANNED = 6, FAN = 7, MEDIAN = 10, FAR_HIGH = 11, FAR_LOW = 12, FAR = 13;
const FAN_QUANTILES = [0.99, 0.9, 0.75, 0.5];

const LINES = [
  { id: "demand", words: "Demand", numbers: [LOW, HIGH, MEAN], mark: { background: "var(--ink)" }, kind: "stroke" },
  { id: "forecast", words: "Forecast, to 99 in 100", numbers: [FAN, FAN + 1, FAN + 2, MEDIAN], mark: { background: "color-mix(in srgb, var(--accent) 55%, transparent)" } },
  { id: "outlook", words: "Outlook, 8 in 10", numbers: [FAR_HIGH, FAR_LOW, FAR], mark: { background: "color-mix(in srgb, var(--accent) 20%, transparent)" } },
  { id: "before", words: "9 in 10, as forecast 9 min before", numbers: [BEFORE], mark: { color: "var(--accent)" }, kind: "stroke dash", isOff: true },
  { id: "capacity", words: "GPUs there were", numbers: [CAPACITY], mark: { color: "var(--capacity)" }, kind: "stroke" },
  { id: "planned", words: "GPUs planned", numbers: [PLANNED], mark: { color: "var(--plan)" }, kind: "stroke" },
];

/** Wire the charts up. Returns {show(state), picture()}; `onRange(from, to)` is told of a stretch to look closer at. */
export function wireDemand({ host, lateHost, legend, readout, onRange }) {
  let shown = null;
  const chart = new TimeChart(host, { describe, onRange, onPoint: tell, syncKey: "demand" });
  const late = new TimeChart(lateHost, { describe: describeLate, onRange, onPoint: tell, syncKey: "demand", hasTimes: false });
  for (const line of LINES) {
    if (line.isOff) chart.toggle(line.numbers, false);
    const mark = element("i", { class: line.kind ?? "", style: line.id === "demand" ? { color: "var(--ink)" } : line.mark, "aria-hidden": "true" });
    const button = element("button", { type: "button", "aria-pressed": String(!line.isOff), "data-line": line.id }, mark, line.words);
    button.addEventListener("click", () => {
      const isShown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(isShown));
      chart.toggle(line.numbers, isShown);
    });
    legend.append(button);
  }

  function describe() {
    const stepped = window.uPlot.paths.stepped({ align: 1 });
    const accent = (alpha) => colour("--accent", alpha);
    const unseen = { stroke: "transparent", width: 0, points: { show: false } };
    return {
      y: { write: (value) => number(value) },
      series: [
        unseen, unseen,
        { stroke: colour("--ink"), width: 1.6 },
        { stroke: accent(1), width: 1.1, dash: [2, 3] },
        { stroke: colour("--capacity"), width: 1.6, paths: stepped },
        { stroke: colour("--plan"), width: 1.6, paths: stepped },
        unseen, unseen, unseen,
        { stroke: accent(1), width: 2 },
        unseen, unseen,
        { stroke: accent(0.75), width: 1.4, dash: [6, 4] },
      ],
      bands: [
        { series: [HIGH, LOW], fill: colour("--ink", 0.13) },
        { series: [FAN, FAN + 1], fill: accent(0.2) },
        { series: [FAN + 1, FAN + 2], fill: accent(0.36) },
        { series: [FAN + 2, MEDIAN], fill: accent(0.52) },
        { series: [FAR_HIGH, FAR_LOW], fill: accent(0.16) },
      ],
      under: (plot, ctx, bbox) => {
        for (const event of shown.events) stretch(plot, ctx, bbox, event.start, event.end, `${event.name} × ${number(event.uplift)}`);
      },
      over: (plot, ctx, bbox) => upright(plot, ctx, bbox, shown.now, "now"),
    };
  }

  function describeLate() {
    const bars = window.uPlot.paths.bars({ size: [0.9, 40], align: 0 });
    return {
      y: { write: (value) => number(value), least: 4 },
      series: [{ stroke: colour("--danger"), fill: colour("--danger", 0.75), width: 0, paths: bars }],
      over: (plot, ctx, bbox) => upright(plot, ctx, bbox, shown.now, ""),
    };
  }

  function tell(place) {
    if (place === null || !shown || shown.data[0][place] === undefined) return readout.replaceChildren();
    const at = (column) => shown.data[column][place];
    const parts = [element("b", {}, moment(at(0)))];
    const say = (words, value) => value !== null && value !== undefined && parts.push(`  ${words} `, element("b", {}, number(value)));
    if (at(0) <= shown.now) {
      say("demand", at(MEAN));
      say("there were", at(CAPACITY));
      say("planned", at(PLANNED));
      say("late", shown.late[place]);
    } else if (at(MEDIAN) !== null) {
      say("median", at(MEDIAN));
      say("9 in 10 under", at(FAN + 1));
      say("99 in 100", at(FAN));
    } else {
      say("about", at(FAR));
      if (at(FAR_LOW) !== null) parts.push(" (", element("b", {}, `${number(at(FAR_LOW))} – ${number(at(FAR_HIGH))}`), ")");
    }
    return readout.replaceChildren(...parts);
  }

  return {
    /** Show what was fetched: {demand, fan, now, range, events, from, to}. */
    show(state) {
      shown = { ...state, ...lay(state) };
      const bounds = { from: shown.data[0][0] - state.demand.step_s / 2, to: shown.until };
      chart.show(shown.data, bounds);
      late.show([shown.data[0], shown.late], bounds);
    },
    picture: (subtitle) => chart.picture("Demand and what is coming", subtitle),
  };
}

/** Fetch what the chart shows. */
export async function fetchDemand(scope, span, points, signal) {
  const hours = span.range ? Math.ceil(AHEAD_S[span.range] / 3600) : 48;
  const query = { ...scope, ...(span.range ? { range: span.range } : { from: span.from, to: span.to }), points };
  const [demand, fan] = await Promise.all([
    call("/v1/demand", { query, signal }),
    call("/v1/forecasts", { query: { ...scope, hours: Math.max(hours, 1) }, signal }),
  ]);
  return { demand, fan };
}

/** Lay past and future out on one row of times. */
function lay({ demand, fan, now, range, to }) {
  const until = range ? now + AHEAD_S[range] : to;
  const half = demand.step_s / 2;
  const past = demand.t.map((t) => t + half);
  const last = demand.mean.findLast((value) => value !== null) ?? null;
  const places = FAN_QUANTILES.map((quantile) => fan.quantiles.indexOf(quantile));
  const near = fan.is_ready ? [[fan.made_at, places.map(() => last)], ...fan.t.map((t, k) => [t, places.map((place) => fan.values[place][k])])] : [];
  const nearEnd = near.length ? near.at(-1)[0] : now;
  const far = fan.outlook_t.map((t, k) => [t, fan.outlook.map((column) => column[k])]).filter(([t]) => t > nearEnd - (near.length ? 3600 : 0) && t <= until + 3600);
  const ahead = near.filter(([t]) => t > (past.at(-1) ?? 0) && t <= until);
  // Hours may begin before the fan's last minute: they go on from there, so that no gap is seen between the two.
  if (ahead.length && far.length) far[0] = [Math.max(far[0][0], ahead.at(-1)[0] + 1), far[0][1]];
  const times = [...past, ...ahead.map(([t]) => t), ...far.map(([t]) => t)];
  const none = (count) => new Array(count).fill(null);
  const after = ahead.length + far.length;
  const whole = (column) => [...column, ...none(after)];
  const fanColumn = (place) => [...none(past.length), ...ahead.map(([, values]) => values[place]), ...none(far.length)];
  const farColumn = (place) => [...none(past.length + ahead.length), ...far.map(([, values]) => values[place])];
  const before = demand.fan ? demand.fan.values[demand.fan.quantiles.indexOf(0.9)] : none(past.length);
  return {
    until,
    late: whole(demand.late),
    data: [
      times, whole(demand.low), whole(demand.high), whole(demand.mean), whole(before), whole(demand.capacity), whole(demand.planned),
      ...FAN_QUANTILES.map((_, place) => fanColumn(place)),
      farColumn(2), farColumn(0), farColumn(1),
    ],
  };
}
