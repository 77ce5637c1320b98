// What surrounds the bench: theme, help, the orders drawer, the link to share, and the keyboard.

const byId = (id) => document.getElementById(id);

/** Wire the shell up. Returns {openOrders}. */
export function wireShell({ stage, order, shuffle, announce }) {
  const help = byId("help-dialog");
  const drawer = byId("orders");
  const setDrawer = (isOpen) => {
    drawer.hidden = !isOpen;
    byId("orders-toggle").setAttribute("aria-expanded", String(isOpen));
  };
  const toggleDrawer = () => setDrawer(drawer.hidden);

  byId("theme").addEventListener("click", toggleTheme);
  byId("help").addEventListener("click", () => help.showModal());
  byId("orders-toggle").addEventListener("click", toggleDrawer);
  byId("orders-close").addEventListener("click", () => { setDrawer(false); byId("orders-toggle").focus(); });
  byId("share").addEventListener("click", () => shareLink(announce));

  const keys = {
    "/": () => { byId("prompt").focus(); byId("prompt").select(); },
    "?": () => help.showModal(),
    s: shuffle,
    g: () => stage.toggleLattice(),
    o: toggleDrawer,
    d: toggleTheme,
    "+": () => stage.zoomBy(5),
    "=": () => stage.zoomBy(5),
    "-": () => stage.zoomBy(-5),
    Escape: () => setDrawer(false),
  };
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      order();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || help.open || isTyping(event.target)) return;
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
  return { openOrders: () => setDrawer(true) };
}

function isTyping(element) {
  return element.matches("textarea, input:not([type='radio'], [type='range'], [type='color'])");
}

function toggleTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("halfdrop-theme", root.dataset.theme);
}

async function shareLink(announce) {
  const button = byId("share");
  try {
    await navigator.clipboard.writeText(location.href);
    announce("Link copied.");
    button.dataset.done = "copied";
    setTimeout(() => delete button.dataset.done, 1500);
  } catch {
    announce("The browser did not allow copying; the address bar holds the same link.");
  }
}
