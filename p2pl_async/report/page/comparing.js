"use strict";
// Curves of several runs laid over each other: each plot has a line per run.

const RUN_COLORS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#5f6b76", "#b0a000"];
const RUN_DASHES = [undefined, [8, 3], [2, 3], [8, 3, 2, 3]];

curves.plots = () => {
  const scores = page.head.metrics.flatMap(({ name, label, unit, falls }) => [
    [`${name}:mean`, `${label}, mean of devices`, unit], [`${name}:${falls ? "max" : "min"}`, `${label}, worst device`, unit],
  ]);
  const wanted = [
    ...scores, ["loss:mean", "loss, mean of devices", ""], ["consensus_distance", "distance of models from their mean", "", true],
    ["bytes_on_air", "bytes on air, all devices", "B"], ["energy_j", "energy, all devices", "J"],
  ];
  const found = [];
  for (const [name, title, unit, log] of wanted) {
    const tables = [], series = [];
    page.head.runs.forEach((run, k) => {
      const across = page.array(`${k}:${curves.axis === "time" ? "time" : curves.axis}`);
      const values = page.array(`${k}:${name}`);
      if (!across || !values || !values.some((value) => value > 0)) return;
      const kept = [...values.keys()].filter((i) => !Number.isNaN(values[i]) && !Number.isNaN(across[i]) && !(log && values[i] <= 0) && !(i && across[i] === across[i - 1]));
      tables.push([kept.map((i) => across[i]), kept.map((i) => values[i])]);
      series.push({ label: run, color: RUN_COLORS[k % RUN_COLORS.length], dash: RUN_DASHES[Math.floor(k / RUN_COLORS.length) % 4], width: 1.8 });
    });
    if (!tables.length) continue;
    const data = tables.length > 1 ? uPlot.join(tables) : tables[0];
    found.push({ id: name.replace(":", "-"), title, unit, log, times: data[0], series, data });
  }
  return found;
};

(async () => {
  await page.unpack();
  page.arrays.set("time", page.array("0:time") || new Float32Array([0]));
  curves.start();
  page.followColors();
  document.body.dataset.ready = "yes";
})();
