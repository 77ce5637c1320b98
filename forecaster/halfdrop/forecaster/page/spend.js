// The month: what was spent, what it will come to, and how far that may be off.

import { TimeChart, colour, upright } from "./chart.js";
import { day, element, money, percent } from "./format.js";

/** Wire the panel up. Returns show(spends, now). */
export function wireSpend({ host, note }) {
  let shown = null;
  const chart = new TimeChart(host, {
    describe: () => ({
      y: { write: (value) => (value ? money(value, shown.currency) : "0") },
      series: [
        { stroke: "transparent", width: 0 }, { stroke: "transparent", width: 0 },
        { stroke: colour("--accent"), width: 1.8, dash: [6, 4] },
        { stroke: colour("--ink"), width: 2 },
      ],
      bands: [{ series: [1, 2], fill: colour("--accent", 0.18) }],
      over: (plot, ctx, bbox) => upright(plot, ctx, bbox, shown.now, "now"),
    }),
    onPoint: (place) => tell(place),
  });

  function tell(place) {
    const at = place === null || !shown ? null : shown.rows[place];
    if (!shown) return;
    note.replaceChildren(...(at ? [
      element("b", {}, day(at.t - 1)), ` ${at.spent === null ? "expected" : "spent"} ${money(at.spent ?? at.expected, shown.currency)}`,
      at.spent === null ? `, ${money(at.low, shown.currency)} to ${money(at.high, shown.currency)}` : "",
    ] : [shown.words]));
  }

  return (spends, now) => {
    if (!spends.length) {
      note.textContent = "No pool serves exactly what is chosen.";
      host.hidden = true;
      return null;
    }
    host.hidden = false;
    const sum = addUp(spends);
    const whole = spends.every((spend) => spend.known_share > 0.99);
    const prices = [...new Set(spends.map((spend) => `${money(spend.price_per_hour, spend.currency)}${spend.is_assumed ? " (assumed)" : ""}`))];
    const words = `At ${prices.join(", ")} a GPU-hour. ${money(sum.low, sum.currency)} to ${money(sum.high, sum.currency)} by the end of the month, if every hour came out low or high.`
      + (whole ? "" : ` Capacity was told for ${percent(sum.known, 0)} of it; where it was not, the plan or the work stands in, and before the history nothing.`);
    const start = { t: sum.start, spent: 0, expected: 0, low: 0, high: 0 };
    shown = { ...sum, now, words, rows: [start, ...sum.days] };
    chart.show(["t", "high", "low", "expected", "spent"].map((name) => shown.rows.map((row) => row[name])), { from: sum.start, to: sum.end });
    tell(null);
    return sum;
  };
}

/** Add the pools up. Their currencies are taken to be the same: the first one's is shown. */
function addUp(spends) {
  const total = (name) => spends.reduce((sum, spend) => sum + spend[name], 0);
  const days = spends[0].days.map((row, place) => {
    const of = (name) => spends.reduce((sum, spend) => sum + (spend.days[place]?.[name] ?? 0), 0);
    return { t: row.t, spent: row.spent === null ? null : of("spent"), expected: of("expected"), low: of("low"), high: of("high") };
  });
  return {
    currency: spends[0].currency, start: spends[0].month_start, end: spends[0].month_end, days,
    spent: total("spent"), expected: total("expected"), low: total("low"), high: total("high"), known: total("known_share") / spends.length,
  };
}
