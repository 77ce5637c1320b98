// What surrounds the sheets: choices and their address, theme, help, exports, and the keyboard.

const byId = (id) => document.getElementById(id);
const RANGES = ["6h", "day", "week", "month", "90d"];

/** Wire the shell up. */
export function wireShell({ refresh, unzoom, picture, scope, range }) {
  const help = byId("help-dialog");
  readAddress();
  byId("scope").addEventListener("change", () => { writeAddress({ ...scope(), range: range() }); unzoom(); });
  byId("scope").addEventListener("submit", (event) => event.preventDefault());
  byId("zoom-out").addEventListener("click", unzoom);
  byId("theme").addEventListener("click", toggleTheme);
  byId("help").addEventListener("click", () => help.showModal());
  byId("png").addEventListener("click", () => save(picture()));
  addEventListener("hashchange", () => { readAddress(); refresh(); });

  const choose = (place) => () => {
    const radio = document.querySelector(`input[name=range][value="${RANGES[place]}"]`);
    radio.checked = true;
    radio.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const goTo = (id) => () => { byId(id).scrollIntoView({ block: "center" }); byId(id).focus(); };
  const keys = {
    1: choose(0), 2: choose(1), 3: choose(2), 4: choose(3), 5: choose(4),
    r: goTo("region"), c: goTo("class"), m: goTo("model"),
    z: unzoom, x: () => byId("csv").click(), p: () => byId("png").click(), d: toggleTheme,
    "?": () => help.showModal(),
    w: whatIf,
    e: () => { const name = document.querySelector("#event-form [name=name]"); name.scrollIntoView({ block: "center" }); name.focus(); },
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open || isTyping(event.target)) return;
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

/** First go to the sliders; from there, replay. */
function whatIf() {
  const form = byId("what-if-form");
  if (form.contains(document.activeElement)) form.requestSubmit();
  else { form.scrollIntoView({ block: "center" }); form.querySelector("input[type=range]")?.focus(); }
}

function isTyping(element) {
  return element.matches("textarea, input:not([type='radio'], [type='range'])");
}

function toggleTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("halfdrop-theme", root.dataset.theme);
}

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const id of ["region", "class", "model"]) {
    const select = byId(id);
    select.dataset.wanted = said.get(id) ?? ""; // its options may not be there yet
    if ([...select.options].some((option) => option.value === select.dataset.wanted)) select.value = select.dataset.wanted;
  }
  const radio = document.querySelector(`input[name=range][value="${CSS.escape(said.get("range") ?? "")}"]`);
  if (radio) radio.checked = true;
}

function writeAddress(choice) {
  const said = new URLSearchParams(Object.entries(choice).filter(([, value]) => value));
  history.replaceState(null, "", `#${said}`);
}

function save(canvas) {
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "halfdrop-demand.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}
