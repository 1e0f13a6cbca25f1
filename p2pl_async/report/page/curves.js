"use strict";
// Curves: each plot has one horizontal axis that all share (time, rounds, or a cost), and a line where the replay is.

const GROUP_DASHES = [[2, 2], [9, 3], [9, 3, 2, 3], [2, 6]]; // of groups of devices; more have no lines

const curves = {
  charts: [],
  axis: "time",

  start() {
    if (!page.has("time")) {
      document.getElementById("curves").hidden = true;
      return;
    }
    const group = document.getElementById("axes");
    const choices = [{ metric: "time", label: "virtual time", unit: "s" }, ...page.head.costs];
    for (const choice of choices) {
      const button = element("button", { type: "button", textContent: choice.label });
      button.setAttribute("aria-pressed", String(choice.metric === "time"));
      button.addEventListener("click", () => {
        this.axis = choice.metric;
        for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
        this.draw();
      });
      group.append(button);
    }
    page.watch((what) => (what === "time" ? this.mark() : this.draw()));
    window.addEventListener("resize", () => this.draw());
    this.draw();
  },

  // Instants in seconds -> positions on the chosen axis.
  across(times) {
    if (this.axis === "time") return Array.from(times);
    const at = page.array("time");
    const cost = page.array(`whole:${this.axis}`);
    return Array.from(times, (time) => {
      const next = Math.min(after(at, time), at.length - 1);
      const last = Math.max(next - 1, 0);
      const share = at[next] > at[last] ? (Math.min(time, at[next]) - at[last]) / (at[next] - at[last]) : 0;
      return cost[last] + share * (cost[next] - cost[last]);
    });
  },

  draw() {
    const zoom = this.zoom;
    for (const chart of this.charts) chart.plot.destroy();
    this.charts = [];
    const place = document.getElementById("plots");
    place.replaceChildren();
    for (const plot of this.plots()) {
      const holder = element("div", { className: "plot", id: plot.id });
      holder.append(element("h3", { textContent: plot.unit ? `${plot.title} (${plot.unit})` : plot.title }));
      place.append(holder);
      this.add(holder, plot);
    }
    this.zoom = zoom;
    this.mark();
  },

  plots() {
    const found = [];
    const n = page.head.n;
    const times = page.array("time");
    for (const [name, { label, unit }] of Object.entries(page.head.scores || {})) {
      const plot = this.ofDevices(name, label, unit, times, page.array(`score:${name}`), n);
      if (name === page.head.metric.name) {
        for (const { name: baseline, alone } of page.head.baselines) {
          const ends = page.array(`baseline:${baseline}`);
          const series = this.resampled(page.array(`baseline_time:${baseline}`), ends, times, alone);
          plot.series.push({ label: baseline, values: series, dash: [7, 4], color: color("--faint") });
        }
      }
      found.push(plot);
    }
    const whole = page.head.whole || {};
    if (whole.consensus_distance) {
      const values = Array.from(page.array("whole:consensus_distance"), (value) => (value > 0 ? value : null));
      found.push({
        id: "consensus_distance", title: "distance of models from their mean", unit: "", times, log: true,
        series: [{ label: "RMS distance", values, color: color("--strong") }],
      });
    }
    const fates = Object.keys(whole).filter((name) => name === "messages_delivered" || name.startsWith("lost_"));
    if (fates.length) {
      const colors = [color("--strong"), ...CAUSES];
      found.push({
        id: "messages", title: "messages per second", unit: "", times,
        series: fates.map((name, k) => ({
          label: name.replace("messages_", "").replace("lost_", "lost: "), color: colors[k % colors.length],
          dash: k ? [[2, 3], [8, 3], [8, 3, 2, 3]][(k - 1) % 3] : undefined, values: this.rates(name, times),
        })),
      });
    }
    for (const [name, { label, unit }] of Object.entries(page.head.averages || {})) {
      found.push(this.ofDevices(name, label, unit, page.array("average_time"), page.array(`average:${name}`), n));
    }
    for (const cost of page.head.costs) {
      if (cost.metric === "rounds" || !(page.array(`whole:${cost.metric}`).at(-1) > 0)) continue;
      found.push({
        id: cost.metric, title: `${cost.label}, all devices`, unit: cost.unit, times,
        series: [{ label: cost.label, values: Array.from(page.array(`whole:${cost.metric}`)), color: color("--strong") }],
      });
    }
    return found;
  },

  // Mean, worst and best of the devices, and the chosen ones.
  ofDevices(id, title, unit, times, values, n) {
    const mean = [], low = [], high = [];
    for (let row = 0; row < times.length; row++) {
      let sum = 0, count = 0, least = Infinity, most = -Infinity;
      for (let k = row * n; k < (row + 1) * n; k++) {
        const value = values[k];
        if (Number.isNaN(value)) continue;
        sum += value;
        count++;
        least = Math.min(least, value);
        most = Math.max(most, value);
      }
      mean.push(count ? sum / count : null);
      low.push(count ? least : null);
      high.push(count ? most : null);
    }
    const series = [
      { label: "mean", values: mean, color: color("--strong"), width: 2 },
      { label: "lowest", values: low, color: color("--worst"), dash: [3, 3] },
      { label: "highest", values: high, color: color("--best"), dash: [3, 3] },
    ];
    let k = 0;
    for (const [group, ids] of Object.entries(page.head.groups).slice(0, 4)) {
      const own = Array.from(times, (_, row) => {
        const known = ids.map((device) => values[row * n + device]).filter((value) => !Number.isNaN(value));
        return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
      });
      series.push({ label: `${group}, mean`, values: own, color: color("--strong"), dash: GROUP_DASHES[k++] });
    }
    k = 0;
    for (const device of [...page.selected].slice(0, 6)) {
      const own = Array.from(times, (_, row) => values[row * n + device]);
      series.push({
        label: `device ${device}`, color: CAUSES[k++ % CAUSES.length], width: 2,
        values: own.map((value) => (Number.isNaN(value) ? null : value)),
      });
    }
    return { id, title, unit, times, series, band: true };
  },

  resampled(times, values, at, alone) {
    if (alone) return Array.from(at, () => values[values.length - 1]); // its clock has nothing to do with this run's
    return Array.from(at, (time) => {
      const row = after(times, time) - 1;
      return row < 0 || time > times[times.length - 1] * 1.02 ? null : values[row];
    });
  },

  rates(name, times) {
    const values = page.array(`whole:${name}`);
    return Array.from(times, (time, row) => {
      if (!row || time - times[row - 1] < page.head.end / 2000) return null; // too short for a rate: at the end
      const before = Number.isNaN(values[row - 1]) ? 0 : values[row - 1];
      const now = Number.isNaN(values[row]) ? 0 : values[row];
      return (now - before) / (time - times[row - 1]);
    });
  },

  add(holder, plot) {
    const unit = this.axis === "time" ? "s" : (page.head.costs.find((one) => one.metric === this.axis) || {}).unit;
    const axis = { stroke: color("--faint"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
    const ticksOf = (what) => (_, ticks) => (what === "s" ? durations(ticks) : ticks.map((value) => (value === null ? "" : short(value, what))));
    const short = (value, what) => (what === "" && Math.abs(value) >= 1e6 ? `${+(value / 1e6).toPrecision(4)} M` : amount(value, what));
    const steps = (what) => (what === "s" ? { incrs: SECONDS } : {});
    const options = {
      width: Math.max(holder.clientWidth, 300), height: 230,
      cursor: { sync: { key: "curves" }, drag: { x: true, y: false } },
      legend: { live: true },
      scales: { x: { time: false }, y: plot.log ? { distr: 3 } : {} },
      axes: [
        { ...axis, ...steps(unit), values: ticksOf(unit), space: 70 },
        { ...axis, ...steps(plot.unit), size: 66, values: ticksOf(plot.unit === "%" ? "" : plot.unit) },
      ],
      series: [
        { label: this.axis === "time" ? "time" : this.axis, value: (_, value) => (value === null ? "" : amount(value, unit)) },
        ...plot.series.map((one) => ({
          label: one.label, stroke: one.color, width: one.width || 1.3, dash: one.dash, spanGaps: true,
          points: { show: false }, value: (_, value) => (value === null ? "" : amount(value, plot.unit)),
        })),
      ],
      bands: plot.band ? [{ series: [3, 2], fill: color("--band") }] : [],
      hooks: {
        setScale: [(u, key) => { if (key === "x" && !this.zooming) this.follow(u); }],
        ready: [(u) => u.over.addEventListener("click", () => {
          if (!plot.data && u.cursor.idx !== null && u.cursor.idx !== undefined) page.setTime(plot.times[u.cursor.idx]);
        })],
      },
    };
    const made = new uPlot(options, plot.data || [this.across(plot.times), ...plot.series.map((one) => one.values)], holder);
    const line = element("div", { className: "now", hidden: Boolean(page.head.runs) });
    made.over.append(line);
    this.charts.push({ plot: made, line, times: plot.times });
  },

  // All plots show what is zoomed to in one.
  follow(from) {
    if (from.status !== 1) return;
    const { min, max } = from.scales.x;
    this.zooming = true;
    for (const { plot } of this.charts) {
      if (plot !== from && (plot.scales.x.min !== min || plot.scales.x.max !== max)) plot.setScale("x", { min, max });
    }
    this.zooming = false;
  },

  mark() {
    if (page.head.runs) return; // a comparison replays nothing
    const [at] = this.across([page.time]);
    for (const { plot, line } of this.charts) {
      const left = plot.valToPos(at, "x");
      line.style.left = `${left}px`;
      line.style.display = left >= 0 && left <= plot.over.clientWidth ? "" : "none";
    }
  },
};
