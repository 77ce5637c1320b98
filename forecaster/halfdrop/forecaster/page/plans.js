// Each pool's plan in words: how many GPUs, why, until when, and what changed of late.

import { age, clock, element, number, percent } from "./format.js";

const CHANGES_SHOWN = 9;

/** Draw the plans of the chosen regions into `host`. */
export function showPlans(host, plans) {
  if (!plans.length) {
    host.replaceChildren(element("p", { class: "empty" }, "No pool serves exactly what is chosen; choose a region to see its plan."));
    return;
  }
  host.replaceChildren(...plans.map(describePlan));
}

function describePlan(plan) {
  const { planned, terms } = plan;
  const head = element("div", { class: "plan-head" },
    element("b", {}, plan.pool === "all" ? `${plan.region}: everything` : `${plan.region} · ${plan.pool}`),
    element("span", {}, planned && plan.learnt_share >= 0.98 ? `made ${age(plan.age_s)} ago` : ""));
  if (plan.learnt_share < 0.98) {
    return element("article", { class: "plan" }, head, element("p", { class: "empty" }, `The forecaster is learning this pool’s past, ${percent(plan.learnt_share, 0)} so far. Until then the reactive floor holds.`));
  }
  if (!planned) return element("article", { class: "plan" }, head, element("p", { class: "empty" }, "The forecaster is learning this pool’s past; until then the reactive floor holds."));
  const now = element("p", { class: "plan-now" }, element("strong", {}, number(planned.replicas)), ` GPUs`,
    element("span", { class: "note" }, plan.capacity === null ? "" : `there are ${number(plan.capacity)}; ${number(plan.demand)} are asked for`));
  const flags = [];
  if (plan.is_stale) flags.push(element("span", { class: "flag" }, `stale: ${age(plan.age_s)} old`));
  if (planned.fallback) flags.push(element("span", { class: "flag" }, "fallen back"));
  const most = Math.max(...planned.points.map((point) => point.replicas), 1);
  const ladder = element("dl", { class: "ladder", "aria-label": "GPUs wanted, by minutes from now" }, ...planned.points.slice(1).flatMap((point) => [
    element("dt", {}, `${point.minutes_ahead} min`),
    element("div", { class: `bar${point.reason.startsWith("forecast") ? "" : " floor"}`, style: { width: `${(100 * point.replicas) / most}%` }, title: point.reason }),
    element("dd", {}, number(point.replicas)),
  ]));
  const boots = `${plan.is_boot_measured ? "measured" : "assumed"} boot p95 ${age(planned.boot_p95_s)}`;
  return element("article", { class: "plan" }, head, now,
    element("p", { class: "why" }, ...flags, flags.length ? " " : "", sentence(planned.reason)),
    ladder,
    element("p", { class: "note" }, `${priced(planned)} ${boots}, ${terms.currency}${number(terms.price_per_hour)} an hour${plan.is_assumed ? " (assumed)" : ""}. ${plan.published}`),
    element("ol", { class: "changes", "aria-label": "Latest changes" }, ...plan.changes.slice(0, CHANGES_SHOWN).map(describeChange)));
}

function describeChange(change) {
  const isUp = change.replicas > change.before;
  return element("li", {},
    element("time", {}, clock((change.minute + 1) * 60)),
    element("span", { class: isUp ? "up" : "down" }, `${change.before} → ${change.replicas}`),
    element("span", {}, change.reason));
}

function priced(planned) {
  if (planned.quantile !== null) return `Planned at the quantile ${number(planned.quantile, 4)}, which the policy states;`;
  return `A late second costs ${number(planned.price)} × an idle GPU second (${planned.price_reason});`;
}

function sentence(words) {
  return words ? `${words[0].toUpperCase()}${words.slice(1)}.` : "";
}
