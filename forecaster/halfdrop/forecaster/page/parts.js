// What the forecast is made of: regions, classes or models, which add up to the whole.

import { call } from "./api.js";
import { element, number } from "./format.js";

const MINUTES = [9, 60];

/** Wire the table up. Returns fetch(scope, scopes, signal) and show(parts). `changed()`: other parts are wanted. */
export function wireParts({ host, by, changed }) {
  by.addEventListener("change", () => { by.dataset.chosen = "yes"; changed(); });

  return {
    fetch(scope, scopes, signal) {
      if (!by.dataset.chosen) by.value = !scope.region && scopes.regions.length > 1 ? "region" : !scope.class && scopes.classes.length > 1 ? "class" : "model";
      return call("/v1/forecasts/parts", { query: { ...scope, by: by.value }, signal });
    },
    show({ is_ready: isReady, detail, horizons, whole, parts }) {
      if (!isReady) {
        host.replaceChildren(element("p", { class: "empty" }, `Not yet: ${detail}.`));
        return;
      }
      const places = MINUTES.map((minutes) => horizons.indexOf(minutes));
      const head = [by.selectedOptions[0].text, ...MINUTES.flatMap((minutes) => [`in ${minutes} min`, "9 in 10 under"])];
      const row = (part, name) => element("tr", {}, element("th", { scope: "row" }, name),
        ...places.flatMap((place) => [element("td", {}, number(part.point[place])), element("td", { class: "note" }, number(part.high[place]))]));
      host.replaceChildren(element("table", {},
        element("thead", {}, element("tr", {}, ...head.map((words) => element("th", { scope: "col" }, words)))),
        element("tbody", {}, ...parts.map((part) => row(part, part.name))),
        element("tfoot", {}, row(whole, "Together"))));
    },
  };
}
