// What if: sliders for a policy and its costs, a replay of one's own days on the server, and the two side by side.

import { call } from "./api.js";
import { TimeChart, colour } from "./chart.js";
import { element, money, number, percent } from "./format.js";

const POLL_MS = 400;

/** name, words, a hint, the slider's bounds as numbers it moves over, and how they are read, shown and written. */
const SLIDERS = [
  { id: "late", words: "Late jobs allowed", hint: "over 10 s, share of all", min: -3.7, max: -1, step: 0.02, read: (terms) => Math.log10(terms.policy.late_share_target), show: (value) => percent(10 ** value, 10 ** value < 0.01 ? 2 : 1), write: (value) => ({ late_share_target: Number((10 ** value).toPrecision(3)) }) },
  { id: "price", words: "Price of a GPU", hint: "an hour, on demand", min: 0.1, max: 12, step: 0.05, read: (terms) => terms.price_per_hour, show: (value, terms) => money(value, terms.currency), write: (value) => ({ price_per_hour: value }) },
  { id: "boot", words: "Boot time", hint: "p95", min: 20, max: 1200, step: 10, read: (terms, p95) => p95, show: (value) => `${Math.floor(value / 60)} min ${value % 60 ? `${Math.round(value % 60)} s` : ""}`, write: (value) => ({ boot_min_s: Math.max(1, Math.round(value * 0.55)), boot_max_s: Math.round(value * 1.025) }) },
  { id: "spot", words: "Spot GPUs", hint: "share of the pool", min: 0, max: 1, step: 0.05, read: (terms) => terms.spot_share, show: (value) => percent(value, 0), write: (value) => ({ spot_share: value }) },
  { id: "least", words: "At least", hint: "GPUs, always", min: 1, max: 60, step: 1, read: (terms) => terms.policy.replicas_min, show: (value) => number(value), write: (value) => ({ replicas_min: value }) },
];

/** Wire the panel up. Returns show(plans). */
export function wireWhatIf({ form, pool, days, sliders, outcome, run, reset, applied, announce }) {
  let plans = [];
  let replay = null;
  let asked = null;
  let chart = null;

  for (const slider of SLIDERS) {
    const input = element("input", { type: "range", id: `slider-${slider.id}`, min: slider.min, max: slider.max, step: slider.step, oninput: () => draw() });
    sliders.append(element("div", { class: "slider", "data-slider": slider.id },
      element("label", { for: `slider-${slider.id}` }, slider.words, element("small", {}, slider.hint)), input, element("output", { for: `slider-${slider.id}` })));
  }
  pool.addEventListener("change", () => settle());
  reset.addEventListener("click", () => settle());
  form.addEventListener("submit", (event) => { event.preventDefault(); replay ? cancel() : start(); });

  const plan = () => plans.find((each) => `${each.region}.${each.pool}` === pool.value);
  const input = (slider) => sliders.querySelector(`#slider-${slider.id}`);
  const present = (slider) => slider.read(plan().terms, plan().planned?.boot_p95_s ?? plan().terms.boot_max_s);
  const hasMoved = (slider) => Math.abs(Number(input(slider).value) - Number(input(slider).dataset.present)) > slider.step / 2;

  /** Put the sliders where the present policy is. */
  function settle() {
    if (!plan()) return;
    for (const slider of SLIDERS) {
      const at = present(slider);
      input(slider).max = Math.max(slider.max, Math.ceil(at * (slider.min < 0 ? 1 : 2)));
      input(slider).value = at;
      input(slider).dataset.present = input(slider).value;
    }
    draw();
  }

  function draw() {
    for (const slider of SLIDERS) {
      const row = sliders.querySelector(`[data-slider=${slider.id}]`);
      row.classList.toggle("moved", hasMoved(slider));
      const words = slider.show(Number(input(slider).value), plan().terms);
      row.querySelector("output").textContent = words;
      input(slider).setAttribute("aria-valuetext", words);
    }
  }

  const wishes = () => Object.assign({}, ...SLIDERS.filter(hasMoved).map((slider) => slider.write(Number(input(slider).value))));

  async function start() {
    asked = { region: plan().region, pool: plan().pool, wishes: wishes(), currency: plan().terms.currency };
    const { region, pool: name } = asked;
    try {
      replay = await call("/v1/what-if", { method: "POST", body: { region, pool: name, days: Number(days.value), wishes: asked.wishes } });
      label("Call it off");
      await watch();
    } catch (error) {
      outcome.replaceChildren(element("p", { class: "note bad" }, error.message));
    } finally {
      replay = null;
      label("Replay");
    }
  }

  async function cancel() {
    await call(`/v1/what-if/${replay.id}`, { method: "DELETE" }).catch(() => {});
  }

  function label(words) {
    run.firstChild.textContent = `${words} `;
  }

  async function watch() {
    const doing = element("p", {});
    const bar = element("progress", { max: 1, value: 0, "aria-label": "How far the replay is" });
    outcome.replaceChildren(element("div", { class: "working" }, doing, bar));
    for (;;) {
      const now = await call(`/v1/what-if/${replay.id}`);
      doing.textContent = now.doing ? `${now.doing[0].toUpperCase()}${now.doing.slice(1)} …` : "";
      bar.value = now.done_share;
      if (now.state === "done") return showAnswer(now);
      if (now.state === "canceled") return outcome.replaceChildren(element("p", { class: "empty" }, "Called off."));
      if (now.state === "failed") return outcome.replaceChildren(element("p", { class: "note bad" }, now.detail));
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  function showAnswer({ answer, took_s: took }) {
    const { present: was, scenario } = answer;
    const rows = [
      ["Present policy", was, ""], ["Your scenario", scenario, "scenario"],
      ["Reaction alone", answer.reactive, "bound"], ["Hindsight, 1 % late", answer.oracle, "bound"],
    ];
    const compared = (row, name, write) => {
      if (row !== scenario || Math.abs(row[name] - was[name]) < 1e-9) return write(row[name]);
      return element("span", { class: row[name] < was[name] ? "better" : "worse" }, write(row[name]));
    };
    const table = element("table", {},
      element("thead", {}, element("tr", {}, ...["", "Late jobs", "GPU-hours", "Cost", "A month", "× hindsight"].map((words) => element("th", { scope: "col" }, words)))),
      element("tbody", {}, ...rows.map(([words, row, kind]) => element("tr", { class: kind },
        element("th", { scope: "row" }, words),
        element("td", {}, compared(row, "late_share", (value) => percent(value, 2))),
        element("td", {}, compared(row, "gpu_hours", (value) => number(value, 4))),
        element("td", {}, compared(row, "cost", (value) => money(value, asked.currency))),
        element("td", {}, money((row.cost / answer.days) * 30.4, asked.currency)),
        element("td", {}, row.oracle_ratio.toFixed(2))))));
    const host = element("div", { class: "chart", role: "img", "aria-label": "GPUs of the present policy and of the scenario over the days replayed" });
    const areWished = Object.keys(asked.wishes).length > 0;
    outcome.replaceChildren(
      element("p", { class: "sentence", id: "what-if-sentence" }, areWished ? sentence(was, scenario, answer) : "Nothing was moved: this is the present policy against hindsight."),
      table, host,
      element("div", { class: "apply" },
        element("button", { type: "button", class: "primary", id: "what-if-apply", disabled: !areWished, onclick: () => apply(scenario, was, answer) }, "Make it the policy"),
        element("button", { type: "button", class: "quiet", id: "what-if-yaml", onclick: () => download(scenario, was, answer) }, "Save as a CapacityPolicy"),
        element("p", { class: "note", id: "what-if-note" }, `${answer.jobs.toLocaleString("en-GB")} jobs of ${number(answer.days)} days, replayed in ${number(took)} s.`)));
    const times = answer.demand.map((_, place) => answer.start_s + (place + 0.5) * answer.step_s);
    const stepped = window.uPlot.paths.stepped({ align: 0 });
    chart = new TimeChart(host, { describe: () => ({
      y: { write: (value) => number(value) },
      series: [
        { stroke: colour("--ink", 0.55), fill: colour("--ink", 0.1), width: 1 },
        { stroke: colour("--capacity"), width: 1.6, paths: stepped },
        { stroke: colour("--accent"), width: 1.8, paths: stepped },
      ],
    }) });
    chart.show([times, answer.demand, was.capacity, scenario.capacity]);
    announce("The replay is done.");
  }

  function sentence(was, scenario, answer) {
    const month = ((scenario.cost - was.cost) / answer.days) * 30.4;
    const cost = Math.abs(month) < 0.5 ? "costs the same" : `${month < 0 ? "saves" : "costs"} ${money(Math.abs(month), asked.currency)} ${month < 0 ? "" : "more "}a month`;
    const points = scenario.late_share - was.late_share;
    const late = Math.abs(points) < 5e-5 ? "with as many late jobs" : `with ${percent(scenario.late_share, 2)} late jobs instead of ${percent(was.late_share, 2)}`;
    return `It ${cost}, ${late}.`;
  }

  const why = (scenario, was, answer) => `Replayed over ${number(answer.days)} days: ${percent(scenario.late_share, 2)} late instead of ${percent(was.late_share, 2)}, ${number(scenario.gpu_hours, 4)} GPU-hours instead of ${number(was.gpu_hours, 4)}.`;

  async function apply(scenario, was, answer) {
    try {
      const made = await call(`/v1/policies/${asked.region}/${asked.pool}`, { method: "PUT", body: { wishes: asked.wishes, why: why(scenario, was, answer) } });
      outcome.querySelector("#what-if-note").textContent = made.stored_at ? `It is the policy now, and lies in the store at ${made.stored_at}.` : "It is the policy of this process now; no store is configured, so save it for the operator.";
      outcome.querySelector("#what-if-apply").disabled = true;
      announce("It is the policy now.");
      applied();
    } catch (error) {
      outcome.querySelector("#what-if-note").textContent = error.message;
    }
  }

  async function download(scenario, was, answer) {
    const draft = await call(`/v1/policies/${asked.region}/${asked.pool}/draft`, { method: "POST", body: { wishes: asked.wishes, why: why(scenario, was, answer) } });
    const link = element("a", { href: URL.createObjectURL(new Blob([draft.yaml], { type: "application/yaml" })), download: `capacity-policy-${asked.region}-${asked.pool}.yaml` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  return (newer, { isApplied = false } = {}) => {
    plans = newer;
    const names = plans.map((each) => `${each.region}.${each.pool}`);
    const known = [...pool.options].map((option) => option.value);
    if (names.join("\n") !== known.join("\n")) {
      const wanted = pool.value;
      pool.replaceChildren(...names.map((name, place) => element("option", { value: name }, plans[place].pool === "all" ? plans[place].region : `${plans[place].region} · ${plans[place].pool}`)));
      if (names.includes(wanted)) pool.value = wanted;
      settle();
    } else if (isApplied || (!replay && plan() && !SLIDERS.some(hasMoved))) settle();
  };
}
