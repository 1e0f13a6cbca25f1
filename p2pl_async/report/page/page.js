"use strict";
// Start all parts once the data are unpacked. An address that ends in #t=12.5 shows that instant.

(async () => {
  await page.unpack();
  map.start();
  curves.start();
  timeline.start();
  matrices.start();
  for (const link of document.querySelectorAll(".findings a")) {
    link.addEventListener("click", () => page.select(link.dataset.devices.split(",").filter(Boolean).map(Number)));
  }
  const asked = /^#t=([\d.]+)$/.exec(location.hash);
  page.setTime(asked ? Number(asked[1]) : page.head.end);
  document.body.dataset.ready = "yes";
})();
