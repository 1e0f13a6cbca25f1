"use strict";
// Matrices: what came through from each device to each, how long it took, and who holds which samples.

const NO_WEIGHTS = "Weights of models in mixes are not shown: devices of this run mixed none, or their protocol tells no weights.";

const matrices = {
  start() {
    page.watch((what) => { if (what === "colors") this.draw(); });
    this.draw();
    const place = document.getElementById("grids");
    if (!place.children.length) document.getElementById("matrices").hidden = true;
    const note = (text) => place.after(element("p", { className: "hint", textContent: text }));
    if (!page.head.cells && page.head.n > 1) note("Matrices from device to device are left out: there are more than 200 devices.");
    else if (page.has("link_src") && !page.has("link_weight")) note(NO_WEIGHTS);
  },

  draw() {
    const place = document.getElementById("grids");
    const n = page.head.n;
    place.replaceChildren();
    if (page.head.cells) {
      const src = page.array("link_src"), dst = page.array("link_dst");
      const delivered = page.array("link_delivered"), lost = page.array("link_lost");
      const filled = (value) => {
        const cells = new Float64Array(n * n).fill(NaN);
        for (let i = 0; i < src.length; i++) cells[src[i] * n + dst[i]] = value(i);
        return cells;
      };
      const decided = (i) => delivered[i] + lost[i];
      this.add(place, "delivered", "%", n, n, filled((i) => (decided(i) ? (100 * delivered[i]) / decided(i) : NaN)), ["from", "to"], 100);
      this.add(place, "mean delay", "s", n, n, filled((i) => page.array("link_mean_delay_s")[i]), ["from", "to"]);
      this.add(place, "messages sent", "", n, n, filled((i) => page.array("link_sent")[i]), ["from", "to"]);
      if (page.has("sent") && page.head.messages.shown === page.head.messages.total) {
        const from = page.array("from"), to = page.array("to"), size = page.array("size");
        const bytes = filled(() => 0);
        for (let i = 0; i < from.length; i++) bytes[from[i] * n + to[i]] += size[i];
        this.add(place, "bytes sent", "B", n, n, bytes, ["from", "to"]);
      }
      this.add(place, "time on air", "s", n, n, filled((i) => page.array("link_air_s")[i]), ["from", "to"]);
    }
    if (page.head.cells && page.has("link_weight")) {
      const src = page.array("link_src"), dst = page.array("link_dst"), weight = page.array("link_weight");
      const cells = new Float64Array(n * n).fill(NaN);
      for (let i = 0; i < src.length; i++) cells[src[i] * n + dst[i]] = 100 * weight[i];
      this.add(place, "weight of models in mixes", "%", n, n, cells, ["from", "to"]);
    }
    const { sample_weight: counts, n_samples: samples } = page.head.devices;
    if (counts && counts.length === n && n <= 200) {
      const all = samples.reduce((sum, count) => sum + count, 0) || 1; // a sample counts 1 on average: weights sum to 1
      const cells = Float64Array.from({ length: 2 * n }, (_, at) => (100 * samples[at >> 1] * (at % 2 ? 1 : counts[at >> 1])) / all);
      this.add(place, "influence", "%", n, 2, cells, ["device", "weight in the mean, share of samples"]);
    }
    if (page.has("samples")) {
      const cells = Float64Array.from(page.array("samples"));
      this.add(place, "training samples", "", n, page.head.classes, cells, ["device", "class"]);
    }
  },

  add(place, title, unit, rows, columns, cells, names, most) {
    const dark = !isPrinted() && matchMedia(DARK).matches; // what is most stands out from the page
    let high = most || 0;
    for (const value of cells) if (value > high) high = value;
    const size = Math.max(2, Math.min(16, Math.floor(300 / Math.max(rows, columns))));
    const canvas = element("canvas", { width: columns, height: rows });
    canvas.style.width = `${columns * size}px`;
    canvas.style.height = `${rows * size}px`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${title}, ${names[0]} down, ${names[1]} across`);
    const context = canvas.getContext("2d");
    for (let k = 0; k < cells.length; k++) {
      if (Number.isNaN(cells[k])) continue;
      const share = high ? cells[k] / high : 0;
      context.fillStyle = `hsl(205 75% ${dark ? 20 + 66 * share : 92 - 68 * share}%)`; // lightness alone tells the value
      context.fillRect(k % columns, Math.floor(k / columns), 1, 1);
    }
    const scale = `0 (${dark ? "dark" : "light"}) to ${amount(high, unit)} (${dark ? "light" : "dark"})`;
    const told = element("p", { textContent: scale });
    canvas.addEventListener("mousemove", (event) => {
      const column = Math.min(columns - 1, Math.floor(event.offsetX / size)), row = Math.min(rows - 1, Math.floor(event.offsetY / size));
      told.textContent = `${names[0]} ${row}, ${names[1]} ${column}: ${amount(cells[row * columns + column], unit)}`;
    });
    canvas.addEventListener("mouseleave", () => { told.textContent = scale; });
    canvas.addEventListener("click", (event) => page.select([Math.min(rows - 1, Math.floor(event.offsetY / size))]));
    place.append(element("div", { className: "grid" }, element("h3", { textContent: `${title}: ${names[0]} down, ${names[1]} across` }), canvas, told));
  },
};
