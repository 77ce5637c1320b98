// Runs before the first paint, so that a dark room never sees a white flash. Not a module: modules are deferred.
(() => {
  const stored = localStorage.getItem("halfdrop-theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  document.documentElement.dataset.theme = stored ?? (dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => {
    if (!localStorage.getItem("halfdrop-theme")) document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  });
})();
