"use strict";
// Start all parts once the data are unpacked. An address that ends in #t=12.5 shows that instant,
// and in #t=12.5&link=3-7 also the story of a link.

(async () => {
  await page.unpack();
  map.start();
  curves.start();
  timeline.start();
  matrices.start();
  page.followColors();
  for (const link of document.querySelectorAll(".findings a")) {
    link.addEventListener("click", () => page.select(link.dataset.devices.split(",").filter(Boolean).map(Number)));
  }
  const asked = /^#t=([\d.]+)(?:&link=(\d+)-(\d+))?$/.exec(location.hash);
  page.setTime(asked ? Number(asked[1]) : page.head.end);
  if (asked && asked[2]) map.chooseBetween(Number(asked[2]), Number(asked[3]));
  document.body.dataset.ready = "yes";
})();
