// The calendar: what people know beforehand. Listed, announced, and taken out again.

import { call } from "./api.js";
import { element, moment, number } from "./format.js";

/** Wire the panel up. Returns show(events, scopes). `changed()` is called when the calendar is another. */
export function wireEvents({ host, form, note, learnt, changed, announce }) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = new FormData(form);
    for (const input of form.elements) input.removeAttribute("aria-invalid");
    try {
      const body = {
        name: said.get("name").trim(), kind: said.get("kind").trim() || "campaign",
        start: toSeconds(said.get("start")), end: toSeconds(said.get("end")),
        uplift: said.get("uplift") === "" ? null : Number(said.get("uplift")), region: said.get("region") || null,
      };
      const missing = ["start", "end"].find((name) => Number.isNaN(body[name]));
      if (missing) throw Object.assign(new Error("When does it begin, and when does it end? Times are UTC."), { field: missing });
      const made = await call("/v1/events", { method: "POST", body });
      form.elements.name.value = "";
      say("");
      announce(`${made.name} is announced.`);
      changed();
    } catch (error) {
      form.elements[error.field]?.setAttribute("aria-invalid", "true");
      form.elements[error.field]?.focus();
      say(error.message);
    }
  });

  /** Say what past events of the chosen kind did: it is the uplift if none is given. */
  async function tellLearnt() {
    const kind = form.elements.kind.value.trim() || "campaign";
    try {
      learnt.textContent = (await call("/v1/events/learnt", { query: { kind } })).words;
    } catch (error) {
      learnt.textContent = error.message;
    }
  }
  form.elements.kind.addEventListener("change", tellLearnt);

  function say(words) {
    note.textContent = words;
    note.classList.toggle("bad", Boolean(words));
  }

  async function remove(event) {
    try {
      await call(`/v1/events/${encodeURIComponent(event.id)}`, { method: "DELETE" });
      announce(`${event.name} is taken out.`);
      changed();
    } catch (error) {
      say(error.message);
    }
  }

  let told = null;
  return (events, now) => {
    const known = JSON.stringify(events);
    if (known !== told) {
      told = known;
      tellLearnt();
    }
    if (!form.elements.start.value && now) {
      // Tomorrow morning for half a day: something to change is quicker than something to fill in.
      const morning = (Math.floor(now / 86400) + 1) * 86400 + 8 * 3600;
      form.elements.start.value = fromSeconds(morning);
      form.elements.end.value = fromSeconds(morning + 12 * 3600);
    }
    if (!events.length) {
      host.replaceChildren(element("p", { class: "empty" }, "Nobody has announced anything. What people know, the past does not show: a campaign, a drop, a holiday."));
      return;
    }
    const head = ["Event", "From (UTC)", "Until", "Uplift", "Where", ""].map((words) => element("th", { scope: "col" }, words));
    host.replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...events.toReversed().map((event) => element("tr", { class: event.end < now ? "past" : event.start <= now ? "on" : "" },
        element("td", {}, element("i", {}, event.name), ` ${event.kind}`),
        element("td", {}, moment(event.start)),
        element("td", {}, moment(event.end)),
        element("td", {}, `× ${number(event.uplift)}`),
        element("td", {}, [event.region, event.model].filter(Boolean).join(", ") || "everywhere"),
        element("td", {}, element("button", { type: "button", class: "quiet", onclick: () => remove(event), "aria-label": `Take out ${event.name}` }, "Take out")))))));
  };
}

function toSeconds(text) {
  return Date.parse(`${text}Z`) / 1000;
}

function fromSeconds(seconds) {
  return new Date(seconds * 1000).toISOString().slice(0, 16);
}
