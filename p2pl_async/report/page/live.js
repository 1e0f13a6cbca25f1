"use strict";
// The page of a run that goes on renews itself when the run's numbers change, and stays where it was.

(() => {
  const kept = JSON.parse(sessionStorage.getItem("kept") || "null");
  sessionStorage.removeItem("kept");
  if (kept && kept.path === location.pathname) window.addEventListener("load", () => setTimeout(() => {
    window.scrollTo(0, kept.scroll);
    page.select(kept.selected);
  }, 100));
  if (!document.querySelector(".status.running")) return;
  let before = null;
  new EventSource("/events").addEventListener("message", (event) => {
    const row = event.data && JSON.parse(event.data).find((one) => one.link === location.pathname);
    const now = JSON.stringify(row);
    if (before !== null && now !== before && !map.playing) {
      sessionStorage.setItem("kept", JSON.stringify({ path: location.pathname, scroll: scrollY, selected: [...page.selected] }));
      location.reload();
    }
    before = now;
  });
})();
