// The planner's page: what is chosen, what is fetched for it, and what is told anew when the forecaster has news.

import { call, follow, withQuery } from "./api.js";
import { wireAccuracy } from "./accuracy.js";
import { fetchDemand, wireDemand } from "./demand.js";
import { age, element, moment, money, number, percent } from "./format.js";
import { wireEvents } from "./events.js";
import { wireParts } from "./parts.js";
import { showPlans } from "./plans.js";
import { wireShell } from "./shell.js";
import { wireSpend } from "./spend.js";
import { wireWhatIf } from "./what-if.js";

const byId = (id) => document.getElementById(id);
const POINTS_PER_PX = 1.1;

const state = { scopes: null, events: [], zoom: null };
let pending = null;

const demand = wireDemand({
  host: byId("demand-chart"), lateHost: byId("late-chart"), legend: byId("legend"), readout: byId("readout"),
  onRange: (from, to) => { state.zoom = { from, to: Math.min(to, state.scopes.now) }; if (state.zoom.to - from > 300) refresh(); },
});
const showAccuracy = wireAccuracy({
  horizon: byId("horizon"), verdict: byId("verdict"), coverage: byId("coverage"), weights: byId("weights"), pinball: byId("pinball"),
});

const announce = (words) => { byId("announcer").textContent = words; };
const showSpend = wireSpend({ host: byId("spend-chart"), note: byId("spend-note") });
const showEvents = wireEvents({ host: byId("events"), form: byId("event-form"), note: byId("event-note"), learnt: byId("event-learnt"), changed: refresh, announce });
const parts = wireParts({ host: byId("parts"), by: byId("parts-by"), changed: refresh });
const showWhatIf = wireWhatIf({
  form: byId("what-if-form"), pool: byId("what-if-pool"), days: byId("what-if-days"), sliders: byId("sliders"), outcome: byId("outcome"),
  run: byId("what-if-run"), reset: byId("what-if-reset"), applied: refresh, announce,
});

const scope = () => ({ region: byId("region").value, class: byId("class").value, model: byId("model").value });
const range = () => document.querySelector("input[name=range]:checked").value;
const span = () => state.zoom ?? { range: range() };

/** Fetch and draw everything for what is chosen. A newer call overtakes an older one. */
async function refresh() {
  pending?.abort();
  const { signal } = (pending = new AbortController());
  try {
    state.scopes = await call("/v1/scopes", { signal });
    showScopes();
    const points = Math.round(byId("demand-chart").clientWidth * POINTS_PER_PX) || 800;
    const [drawn, plans, accuracy, spends, made, events] = await Promise.all([
      fetchDemand(scope(), span(), Math.min(Math.max(points, 100), 4000), signal),
      call("/v1/plans", { signal }),
      call("/v1/accuracy", { query: scope(), signal }),
      call("/v1/spend", { query: { region: scope().region }, signal }),
      parts.fetch(scope(), state.scopes, signal),
      call("/v1/events", { signal }).catch((error) => { if (error.name === "AbortError") throw error; return state.events; }),
    ]);
    state.events = events;
    const chosen = plans.filter((plan) => !scope().region || plan.region === scope().region);
    demand.show({ ...drawn, now: state.scopes.now, range: state.zoom ? null : range(), events: state.events, to: state.zoom?.to });
    showPlans(byId("plans"), chosen);
    showAccuracy(accuracy);
    parts.show(made);
    const spend = showSpend(spends, state.scopes.now);
    showEvents(events, state.scopes.now);
    showWhatIf(plans);
    showFigures(drawn.demand, chosen, accuracy, spend);
    byId("csv").href = withQuery("/v1/demand.csv", { ...scope(), ...span(), points });
    byId("zoom-out").hidden = !state.zoom;
    trouble(null);
    document.body.dataset.state = "ready";
    document.body.dataset.revision = state.scopes.revision;
  } catch (error) {
    if (error.name !== "AbortError") trouble(error);
  }
}

function trouble(error) {
  byId("trouble").hidden = !error;
  byId("trouble").textContent = error ? error.message : "";
  if (error) console.warn(error.message);
}

function showScopes() {
  const { scopes } = state;
  for (const [id, names] of [["region", scopes.regions], ["class", scopes.classes], ["model", scopes.models]]) fill(byId(id), names);
  fill(byId("event-region"), scopes.regions);
  whence({ age_s: scopes.age_s, is_stale: scopes.is_stale, learnt_share: scopes.learnt_share });
}

function fill(select, names) {
  const wanted = select.dataset.wanted ?? select.value;
  const known = [...select.options].map((option) => option.value).filter(Boolean);
  if (known.join("\n") === names.join("\n")) return;
  select.replaceChildren(element("option", { value: "" }, "All"), ...names.map((name) => element("option", { value: name }, name)));
  if (names.includes(wanted)) select.value = wanted;
  if (names.length) delete select.dataset.wanted;
}

/** Say how fresh everything is. */
function whence({ age_s: ageS, is_stale: isStale, learnt_share: learnt }) {
  const { scopes } = state;
  if (!scopes?.series) {
    byId("whence").textContent = "No demand is known yet.";
    return;
  }
  const where = `${scopes.series} series in ${scopes.regions.length} ${scopes.regions.length === 1 ? "region" : "regions"}`;
  byId("pulse").dataset.state = scopes.is_live ? (isStale ? "stale" : "fresh") : "file";
  byId("whence").textContent = scopes.is_live
    ? `${isStale ? "Stale: the" : "The"} newest minute is ${age(ageS)} old; ${where}`
    : `From the file ${scopes.source}, as of ${moment(scopes.end)} UTC; ${where}`;
  byId("learning").hidden = learnt >= 0.9999;
  byId("learning-bar").value = learnt;
  byId("learning-text").textContent = `learning the past, ${percent(learnt, 0)}`;
}

function figure(name, value, note, isBad = false) {
  const host = document.querySelector(`[data-figure=${name}]`);
  host.classList.toggle("bad", isBad);
  host.querySelector("dd").replaceChildren(...[value].flat());
  host.querySelector(".note").textContent = note;
}

function showFigures(view, plans, accuracy, spend) {
  const last = view.mean.findLast((value) => value !== null) ?? null;
  const small = (words) => element("small", {}, ` ${words}`);
  const peak = Math.max(...view.high.filter((value) => value !== null), 0);
  figure("demand", [number(last), small("GPUs")], `at most ${number(peak)} in this range`);
  const areReady = plans.length > 0 && plans.every((plan) => plan.planned && plan.learnt_share >= 0.98);
  const planned = plans.reduce((sum, plan) => sum + (plan.planned?.replicas ?? 0), 0);
  const known = plans.filter((plan) => plan.capacity !== null);
  const fallen = plans.some((plan) => plan.planned?.fallback);
  figure("plan", areReady ? number(planned) : "–", !areReady ? "the forecaster is learning" :
    fallen ? "fallen back: see why beside" : known.length ? `there are ${number(known.reduce((sum, plan) => sum + plan.capacity, 0))}` : "nobody tells how many there are", fallen);
  const sum = (column) => column.reduce((total, value) => total + (value ?? 0), 0);
  const [late, requests] = [sum(view.late), sum(view.requests)];
  figure("late", requests ? percent(late / requests, 2) : "–", requests ? `${late.toLocaleString("en-GB")} of ${requests.toLocaleString("en-GB")} jobs` : "nobody counts jobs", requests > 0 && late / requests > 0.01);
  figure("spend", spend ? money(spend.spent, spend.currency) : "–", spend ? `${money(spend.expected, spend.currency)} by the end of it` : "");
  showHindsight(plans);
  const score = accuracy.scores.find(({ horizon }) => horizon === accuracy.judged_horizon);
  const covered = score?.week.coverage[accuracy.quantiles.indexOf(0.9)];
  figure("coverage", percent(covered ?? null), covered === undefined ? "nothing judged yet" : `of minutes under “9 in 10”, ${accuracy.judged_horizon} min ahead`);
}

/** How much more than the cheapest that was possible, known afterwards. */
function showHindsight(plans) {
  const seen = plans.map((plan) => plan.hindsight).filter((each) => each?.oracle_gpu_hours);
  if (!seen.length) return figure("oracle", "–", plans.length ? "not looked back yet" : "");
  const sum = (name) => seen.reduce((total, each) => total + each[name], 0);
  const isTold = seen.every((each) => each.actual_gpu_hours !== null);
  const ratio = (name) => number(sum(name) / sum("oracle_gpu_hours"));
  const late = seen.every((each) => each.actual_late_share !== null) ? `, ${percent(seen.reduce((total, each) => total + each.actual_late_share, 0) / seen.length, 1)} late` : "";
  const days = `${number(seen[0].days)} days`;
  return isTold
    ? figure("oracle", [ratio("actual_gpu_hours"), element("small", {}, " ×")], `there was${late}; this plan would be ${ratio("planned_gpu_hours")} ×, over ${days}`)
    : figure("oracle", [ratio("planned_gpu_hours"), element("small", {}, " ×")], `this plan, replayed over ${days}`);
}

wireShell({
  refresh,
  unzoom: () => { state.zoom = null; refresh(); },
  picture: () => demand.picture(`${Object.values(scope()).filter(Boolean).join(" · ") || "Everything"}, as of ${moment(state.scopes.now)} UTC`),
  scope, range,
});

let waiting = null;
follow((news) => {
  if (state.scopes) whence(news);
  if (document.hidden || waiting) return;
  const isLearning = news.learnt_share < 0.9999;
  waiting = setTimeout(() => { waiting = null; refresh(); }, isLearning && state.scopes ? 4000 : 100);
}, (isThere) => { if (!isThere) byId("pulse").dataset.state = "stale"; });
addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
