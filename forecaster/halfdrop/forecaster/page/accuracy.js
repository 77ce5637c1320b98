// How far to believe the forecast: what each quantile promised and kept, what the experts weigh, and the verdict.

import { element, number, percent } from "./format.js";

const OFF_POINTS = 0.03;

/** Wire the panel up. Returns show(accuracy). */
export function wireAccuracy({ horizon, verdict, coverage, weights, pinball }) {
  let shown = null;
  horizon.addEventListener("change", draw);

  function draw() {
    if (!shown?.is_ready) {
      verdict.textContent = "The forecaster is learning; nothing has been judged yet.";
      for (const host of [coverage, weights, pinball]) host.replaceChildren();
      return;
    }
    const score = shown.scores.find((each) => String(each.horizon) === horizon.value) ?? shown.scores[0];
    const { is_good: isGood, reason } = shown.verdict;
    verdict.classList.toggle("bad", !isGood);
    verdict.textContent = isGood ? drifting(score) : `Fallen back to the reactive floor: ${reason}.`;
    coverage.replaceChildren(describeCoverage(score.week, shown.quantiles));
    weights.replaceChildren(describeWeights(score.weights));
    const { week } = score;
    pinball.textContent = week.minutes
      ? `Pinball loss at 9 in 10: ${number(week.pinball)} GPUs, ${percent(week.pinball / week.last_value_pinball, 0)} of what the last value alone would have lost, over ${week.minutes.toLocaleString("en-GB")} judged minutes.`
      : "Not enough minutes are judged yet.";
  }

  return (accuracy) => {
    shown = accuracy;
    const wanted = horizon.value || String(accuracy.judged_horizon);
    horizon.replaceChildren(...accuracy.scores.map(({ horizon: minutes }) =>
      element("option", { value: minutes, selected: String(minutes) === wanted }, minutes < 60 ? `${minutes} min` : `${minutes / 60} h`)));
    draw();
  };
}

function drifting(score) {
  if (score.drift === "below") return "Believed. Demand has been below the forecast for a while: it costs money, not jobs.";
  return "Believed: it has kept its word over the last hours.";
}

function describeCoverage(score, quantiles) {
  if (!score.minutes) return element("p", { class: "empty" }, "Nothing judged yet.");
  return element("dl", { class: "rows of-coverage" }, ...quantiles.flatMap((quantile, place) => {
    const kept = score.coverage[place];
    const off = Math.abs(kept - quantile) > OFF_POINTS ? " off" : "";
    const at = (share) => `${(100 * Math.max(0, share - 0.4)) / 0.6}%`;
    return [
      element("dt", {}, percent(quantile, quantile > 0.9 && quantile % 0.05 > 0.001 ? 1 : 0)),
      element("div", { class: "scale", role: "presentation" },
        element("span", { class: "promise", style: { left: at(quantile) } }),
        element("span", { class: `kept${off}`, style: { left: at(kept) } })),
      element("dd", { class: off.trim() }, percent(kept)),
    ];
  }));
}

function describeWeights(weights) {
  const rows = Object.entries(weights).sort(([, a], [, b]) => b - a);
  return element("dl", { class: "rows of-weights" }, ...rows.flatMap(([name, weight]) => [
    element("dt", {}, name),
    element("div", { class: "fill", style: { width: `${100 * weight}%` } }),
    element("dd", {}, percent(weight, 0)),
  ]));
}
