"use strict";
// The map: devices where they are, links by the share delivered, and a replay of the messages in virtual time.

const LINK_COLORS = ["--link-0", "--link-1", "--link-2", "--link-3"]; // 0 % to 100 % delivered
const SPEEDS = [0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 100];

const map = {
  playing: false,
  speed: 1,
  link: null, // chosen: its row
  crosses: [], // of the messages lost a moment ago: x, y, color, when (ms)

  start() {
    this.canvas = document.getElementById("canvas");
    if (!page.has("x")) {
      document.getElementById("map").hidden = true;
      return;
    }
    this.measure();
    if (page.has("sent")) this.prepare();
    this.controls();
    this.canvas.addEventListener("click", (event) => this.click(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("resize", () => this.draw());
    page.watch((what) => {
      if (what === "colors") this.recolor();
      if (what !== "time") this.tellStory();
      this.draw();
    });
    this.recolor();
    this.tellStory();
    this.draw();
  },

  recolor() {
    if (page.has("sent")) this.colors = page.head.messages.fates.map(fateColor);
    this.legend();
  },

  // For each block of messages the latest instant at which one of it or of those before is gone: where to begin.
  prepare() {
    const gone = page.array("gone");
    this.latest = new Uint32Array(gone.length);
    let most = 0;
    for (let i = 0; i < gone.length; i++) {
      if (gone[i] > most) most = gone[i];
      this.latest[i] = most;
    }
    this.arrives = page.head.messages.fates.map((fate) => fate === "delivered" || fate === "partial");
    this.isLost = page.head.messages.fates.map((fate, k) => !this.arrives[k] && fate !== "in flight"); // which is on its way at the end
  },

  controls() {
    const speed = document.getElementById("speed");
    for (const value of SPEEDS) speed.append(element("option", { value, textContent: `${value} x` }));
    // The whole run in about a minute, to begin with.
    const fit = SPEEDS.reduce((best, value) => (Math.abs(Math.log(value * 60 / page.head.end)) < Math.abs(Math.log(best * 60 / page.head.end)) ? value : best));
    speed.value = String(fit);
    this.speed = fit;
    speed.addEventListener("change", () => { this.speed = Number(speed.value); });
    document.getElementById("play").addEventListener("click", () => this.play());
    const scrub = document.getElementById("scrub");
    scrub.addEventListener("input", () => page.setTime((scrub.value / 100000) * page.head.end));
    if (!page.has("sent")) {
      document.getElementById("underway").hidden = true;
      document.getElementById("play").disabled = !page.has("track_time");
      document.getElementById("player").append("This run kept no trace of its messages: run it with --trace to replay them.");
    }
  },

  play() {
    this.playing = !this.playing;
    const button = document.getElementById("play");
    button.textContent = this.playing ? "Pause" : "Play";
    button.setAttribute("aria-pressed", String(this.playing));
    if (!this.playing) return;
    if (page.time >= page.head.end) page.setTime(0);
    let last = performance.now();
    const step = (now) => {
      if (!this.playing) return;
      page.setTime(page.time + ((now - last) / 1000) * this.speed);
      last = now;
      if (page.time >= page.head.end) this.play();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  },

  key(event) {
    const step = this.speed / 10;
    if (event.key === " ") this.play();
    else if (event.key === "ArrowRight") page.setTime(page.time + step);
    else if (event.key === "ArrowLeft") page.setTime(page.time - step);
    else if (event.key === "Home") page.setTime(0);
    else if (event.key === "End") page.setTime(page.head.end);
    else return;
    event.preventDefault();
  },

  // Where devices are on one axis at this instant: between two places of their tracks, or where they always are.
  now(axis) {
    if (!page.has("track_time")) return page.array(axis);
    const times = page.array("track_time"), places = page.array(`track_${axis}`), n = page.head.n;
    const next = Math.min(after(times, page.time), times.length - 1), last = Math.max(next - 1, 0);
    const share = times[next] > times[last] ? Math.min(Math.max((page.time - times[last]) / (times[next] - times[last]), 0), 1) : 0;
    return Float32Array.from({ length: n }, (_, k) => places[last * n + k] + share * (places[next * n + k] - places[last * n + k]));
  },

  // The least and most of both coordinates, at any instant.
  measure() {
    this.span = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [axis, low] of [["x", 0], ["y", 2]]) {
      for (const value of page.array(`track_${axis}`) || page.array(axis)) {
        this.span[low] = Math.min(this.span[low], value);
        this.span[low + 1] = Math.max(this.span[low + 1], value);
      }
    }
  },

  // Device coordinates -> pixels.
  place(width, height) {
    const x = this.now("x"), y = this.now("y");
    const span = this.span;
    const margin = 34;
    const scale = Math.min((width - 2 * margin) / (span[1] - span[0] || 1), (height - 2 * margin) / (span[3] - span[2] || 1));
    const left = (width - scale * (span[1] - span[0])) / 2, top = (height - scale * (span[3] - span[2])) / 2;
    this.px = Float32Array.from(x, (value) => left + (value - span[0]) * scale);
    this.py = Float32Array.from(y, (value) => height - top - (value - span[2]) * scale);
    this.scale = scale;
  },

  draw() {
    const [context, width, height] = prepared(this.canvas);
    if (!width) return;
    context.clearRect(0, 0, width, height);
    this.place(width, height);
    this.links(context);
    const shown = page.has("sent") ? this.messages(context) : [];
    this.devices(context);
    if (page.head.placed) this.ruler(context, height);
    document.getElementById("scrub").value = String(Math.round((page.time / page.head.end) * 100000));
    document.getElementById("clock").textContent = duration(page.time);
    this.list(shown);
  },

  links(context) {
    if (!page.has("link_src")) return;
    const src = page.array("link_src"), dst = page.array("link_dst");
    const delivered = page.array("link_delivered"), lost = page.array("link_lost");
    const many = src.length > 3000, colors = LINK_COLORS.map(color);
    for (let i = 0; i < src.length; i++) {
      const near = page.selected.has(src[i]) || page.selected.has(dst[i]);
      if (page.selected.size && !near && many) continue;
      const decided = delivered[i] + lost[i];
      const share = decided ? delivered[i] / decided : NaN;
      const [x0, y0, x1, y1] = this.ends(src[i], dst[i]);
      context.strokeStyle = Number.isNaN(share) ? color("--line") : colors[Math.min(3, Math.floor(share * 4))];
      context.globalAlpha = page.selected.size && !near ? 0.12 : many ? 0.25 : 0.7;
      context.lineWidth = (Number.isNaN(share) ? 0.6 : 0.8 + 1.6 * (1 - share)) + (i === this.link ? 2 : 0);
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.stroke();
    }
    context.globalAlpha = 1;
  },

  // Where a link is drawn: beside the line between its devices, so that both ways show.
  ends(src, dst) {
    const [x0, y0, x1, y1] = [this.px[src], this.py[src], this.px[dst], this.py[dst]];
    const length = Math.hypot(x1 - x0, y1 - y0) || 1;
    const [bx, by] = [(-(y1 - y0) / length) * 2.5, ((x1 - x0) / length) * 2.5];
    return [x0 + bx, y0 + by, x1 + bx, y1 + by];
  },

  // The messages under way at `time` (s), as rows of the arrays.
  underWay(time) {
    const sent = page.array("sent"), gone = page.array("gone");
    const now = partOf(time);
    const found = [];
    const begin = after(this.latest, now - 1); // all before are gone
    for (let i = Math.max(begin, 0); i < sent.length && sent[i] <= now; i++) if (gone[i] >= now) found.push(i);
    return found;
  },

  messages(context) {
    const sent = page.array("sent"), gone = page.array("gone");
    const from = page.array("from"), to = page.array("to"), fate = page.array("fate");
    const now = partOf(page.time);
    const rows = this.underWay(page.time);
    for (const i of rows) {
      const share = gone[i] > sent[i] ? (now - sent[i]) / (gone[i] - sent[i]) : 1;
      const way = this.arrives[fate[i]] ? share : share * 0.6; // one that is lost, or still under way, doesn't get there
      const x = this.px[from[i]] + way * (this.px[to[i]] - this.px[from[i]]);
      const y = this.py[from[i]] + way * (this.py[to[i]] - this.py[from[i]]);
      context.fillStyle = this.colors[fate[i]];
      context.beginPath();
      context.arc(x, y, 3.4, 0, 2 * Math.PI);
      context.fill();
    }
    // Crosses for those lost within the last moment: a third of a second of watching.
    const moment = partOf(Math.max(this.speed, 0.01) / 3);
    context.lineWidth = 2;
    for (let i = after(sent, now) - 1, looked = 0; i >= 0 && looked < 4000; i--, looked++) {
      if (!this.isLost[fate[i]] || gone[i] > now || now - gone[i] > moment) continue;
      const x = this.px[from[i]] + 0.6 * (this.px[to[i]] - this.px[from[i]]);
      const y = this.py[from[i]] + 0.6 * (this.py[to[i]] - this.py[from[i]]);
      context.strokeStyle = this.colors[fate[i]];
      context.globalAlpha = 1 - (now - gone[i]) / moment;
      context.beginPath();
      context.moveTo(x - 4, y - 4); context.lineTo(x + 4, y + 4);
      context.moveTo(x - 4, y + 4); context.lineTo(x + 4, y - 4);
      context.stroke();
    }
    context.globalAlpha = 1;
    return rows;
  },

  devices(context) {
    const n = page.head.n;
    const radius = n <= 60 ? 11 : Math.max(2.5, 80 / Math.sqrt(n));
    const down = new Set(page.head.down.filter(([, from, to]) => page.time >= from && page.time < to).map(([device]) => device));
    const scores = page.array(`score:${page.head.metric.name}`);
    let low = 0, high = 100, row = -1;
    if (scores) {
      row = Math.max(after(page.array("time"), page.time) - 1, 0);
      low = Infinity; high = -Infinity;
      for (const value of scores) { if (value < low) low = value; if (value > high) high = value; }
    }
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = "10px system-ui, sans-serif";
    for (let k = 0; k < n; k++) {
      let score = NaN; // the latest one: at the end of a run there may be numbers of the whole run alone
      for (let at = row; at >= 0 && Number.isNaN(score); at--) score = scores[at * n + k];
      const rank = Number.isNaN(score) || high <= low ? 0.5 : (score - low) / (high - low);
      const share = page.head.metric.falls ? 1 - rank : rank;
      context.fillStyle = down.has(k) ? color("--line") : Number.isNaN(score) ? "#6b7785" : `hsl(${205 - 150 * (1 - share)} 70% ${28 + 30 * share}%)`;
      context.beginPath();
      context.arc(this.px[k], this.py[k], radius, 0, 2 * Math.PI);
      context.fill();
      context.lineWidth = page.selected.has(k) ? 3 : 1;
      context.strokeStyle = page.selected.has(k) ? color("--worst") : color("--paper");
      context.stroke();
      if (n <= 60) {
        context.fillStyle = down.has(k) ? color("--ink") : "#fff";
        context.fillText(String(k), this.px[k], this.py[k]);
      }
    }
  },

  ruler(context, height) {
    const ten = 10 ** Math.floor(Math.log10(120 / this.scale));
    const far = [5, 2, 1].find((digit) => digit * ten * this.scale <= 120) * ten;
    const length = far * this.scale;
    context.strokeStyle = context.fillStyle = color("--faint");
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(14, height - 14);
    context.lineTo(14 + length, height - 14);
    context.stroke();
    context.textAlign = "left";
    context.fillText(`${+far.toPrecision(2)} ${page.head.unit}`.trim(), 14, height - 24);
  },

  click(event) {
    const [x, y] = [event.offsetX, event.offsetY];
    let nearest = -1, least = 20;
    for (let k = 0; k < page.head.n; k++) {
      const far = Math.hypot(this.px[k] - x, this.py[k] - y);
      if (far < least) [nearest, least] = [k, far];
    }
    const link = nearest < 0 ? this.linkAt(x, y) : -1;
    if (link >= 0) this.choose(link);
    else if (nearest < 0) page.select([]);
    else if (event.shiftKey) page.toggle(nearest);
    else page.select(page.selected.has(nearest) && page.selected.size === 1 ? [] : [nearest]);
  },

  // The link whose line is nearest to a point, within some pixels; -1 if none is.
  linkAt(x, y) {
    if (!page.has("link_src")) return -1;
    const src = page.array("link_src"), dst = page.array("link_dst");
    let nearest = -1, least = 6;
    for (let i = 0; i < src.length; i++) {
      const [x0, y0, x1, y1] = this.ends(src[i], dst[i]);
      const length = Math.hypot(x1 - x0, y1 - y0) || 1;
      const along = Math.min(Math.max(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length ** 2, 0), 1);
      const far = Math.hypot(x0 + along * (x1 - x0) - x, y0 + along * (y1 - y0) - y);
      if (far < least) [nearest, least] = [i, far];
    }
    return nearest;
  },

  choose(link) {
    this.link = link;
    page.select([page.array("link_src")[link], page.array("link_dst")[link]]);
  },

  chooseBetween(src, dst) {
    const from = page.array("link_src") || [], to = page.array("link_dst");
    for (let i = 0; i < from.length; i++) if (from[i] === src && to[i] === dst) this.choose(i);
  },

  tellStory() {
    const story = document.getElementById("story");
    story.replaceChildren();
    const [src, dst] = this.link === null ? [] : [page.array("link_src")[this.link], page.array("link_dst")[this.link]];
    if (page.selected.size !== 2 || !page.selected.has(src) || !page.selected.has(dst)) this.link = null;
    if (this.link !== null) {
      story.append(this.storyOfLink(this.link));
      return;
    }
    if (!page.selected.size) {
      story.append(element("p", { className: "hint", textContent: "Click a device or a link to see its story; with shift, several devices." }));
      return;
    }
    for (const device of [...page.selected].slice(0, 6)) story.append(this.storyOf(device));
  },

  storyOfLink(i) {
    const [src, dst] = [page.array("link_src")[i], page.array("link_dst")[i]];
    const part = element("div", {}, element("h3", { textContent: `Link ${src} to ${dst}` }));
    const facts = element("dl");
    const tell = (name, text) => facts.append(element("dt", { textContent: name }), element("dd", { textContent: text }));
    const sent = page.array("link_sent")[i], got = page.array("link_delivered")[i];
    tell("sent", amount(sent, ""));
    tell("delivered", sent ? `${amount(got, "")} (${((100 * got) / sent).toFixed(1)} %)` : "-");
    const used = this.used(src, dst);
    if (used !== null) tell("used by mixes", amount(used, ""));
    for (const cause of page.head.causes) {
      const lost = page.array(`link_lost:${cause}`)[i];
      if (lost) tell(`lost: ${cause}`, `${amount(lost, "")} (${((100 * lost) / sent).toFixed(1)} %)`);
    }
    tell("mean delay", duration(page.array("link_mean_delay_s")[i]));
    tell("time on air", duration(page.array("link_air_s")[i]));
    if (page.has("link_first_delivery_s")) {
      tell("first delivery", duration(page.array("link_first_delivery_s")[i]));
      tell("last delivery", duration(page.array("link_last_delivery_s")[i]));
    }
    if (page.has("link_weight")) tell("weight in mixes", amount(100 * page.array("link_weight")[i], "%"));
    part.append(facts);
    const chart = this.fatesOverTime((from, to) => from === src && to === dst);
    if (chart) part.append(chart);
    return part;
  },

  // Fates of some messages over time, as bars: delivered below, lost by cause above.
  fatesOverTime(concerns) {
    if (!page.has("sent")) return null;
    const bins = 40, fates = page.head.messages.fates;
    const counts = fates.map(() => new Uint32Array(bins));
    const sent = page.array("sent"), from = page.array("from"), to = page.array("to"), fate = page.array("fate");
    for (let i = 0; i < sent.length; i++) {
      if (concerns(from[i], to[i])) counts[fate[i]][Math.min(bins - 1, Math.floor((sent[i] / PARTS) * bins))]++;
    }
    const order = [...fates.keys()].sort((a, b) => (fates[b] === "delivered") - (fates[a] === "delivered") || a - b);
    const totals = Array.from({ length: bins }, (_, bin) => counts.reduce((sum, of) => sum + of[bin], 0));
    const most = Math.max(...totals);
    if (!most) return null;
    const canvas = element("canvas", { className: "fates", width: bins * 7, height: 70 });
    const lost = order.map((k) => [fates[k], counts[k].reduce((a, b) => a + b, 0)]).filter(([, count]) => count);
    const told = lost.map(([name, count]) => `${name} ${count}`).join(", ");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `messages over time by fate: ${told}`);
    const context = canvas.getContext("2d");
    for (let bin = 0; bin < bins; bin++) {
      let y = canvas.height;
      for (const k of order) {
        const tall = (counts[k][bin] / most) * canvas.height;
        context.fillStyle = this.colors[k];
        context.fillRect(bin * 7, y - tall, 6, tall);
        y -= tall;
      }
    }
    return element("figure", {}, canvas, element("figcaption", { textContent: `messages from 0 s to ${duration(page.head.end)}: ${told}` }));
  },

  storyOf(device) {
    const columns = page.head.devices;
    const part = element("div", {}, element("h3", { textContent: `Device ${device}` }));
    const facts = element("dl");
    const tell = (name, text) => facts.append(element("dt", { textContent: name }), element("dd", { textContent: text }));
    const { name: metric, label, unit: scored } = page.head.metric;
    if (columns.group && columns.group[device]) tell("group", columns.group[device]);
    if (columns[metric] && columns[metric][device] != null) tell(label, amount((scored === "%" ? 100 : 1) * columns[metric][device], scored));
    tell("rounds", amount(columns.rounds[device], ""));
    if (columns.n_samples[device]) tell("training samples", amount(columns.n_samples[device], ""));
    if (columns.sample_weight && columns.sample_weight[device] != null) tell("a sample counts", `${columns.sample_weight[device].toPrecision(2)} (average 1)`);
    if (columns.energy_j) tell("energy", amount(columns.energy_j[device], "J"));
    if (columns.battery_empty_s && columns.battery_empty_s[device] != null) tell("battery empty", `after ${duration(columns.battery_empty_s[device])}`);
    for (const [, from, to] of page.head.down.filter(([who]) => who === device).slice(0, 5)) tell("down", `${duration(from)} to ${duration(to)}`);
    part.append(facts);
    if (!page.has("link_src")) return part;
    for (const [title, own, other] of [["Heard from", "link_dst", "link_src"], ["Heard by", "link_src", "link_dst"]]) {
      const rows = [];
      const mine = page.array(own), theirs = page.array(other);
      for (let i = 0; i < mine.length; i++) if (mine[i] === device) rows.push(i);
      const names = [title, "sent", "delivered", ...(this.used(0, 0) === null ? [] : ["used"]), "delay", "lost by"];
      const table = element("table", {}, element("tr", {}, ...names.map((text) => element("th", { textContent: text }))));
      for (const i of rows.slice(0, 30)) {
        const sent = page.array("link_sent")[i], got = page.array("link_delivered")[i];
        const [src, dst] = own === "link_dst" ? [theirs[i], device] : [device, theirs[i]];
        const share = (count) => (sent ? `${((100 * count) / sent).toFixed(0)} %` : "-");
        const used = this.used(src, dst);
        const cells = [theirs[i], sent, share(got), ...(used === null ? [] : [share(used)]), duration(page.array("link_mean_delay_s")[i]), this.causes(src, dst)];
        const row = element("tr", {}, ...cells.map((text) => element("td", { textContent: String(text) })));
        const button = element("button", { type: "button", textContent: String(theirs[i]), title: "the story of this link" });
        button.addEventListener("click", () => this.choose(i));
        row.firstChild.replaceChildren(button);
        table.append(row);
      }
      part.append(table);
    }
    const chart = this.fatesOverTime((from, to) => from === device || to === device);
    if (chart) part.append(chart);
    return part;
  },

  // How many messages of a link mixes used; null if that isn't known.
  used(src, dst) {
    if (!page.has("mixed") || page.head.messages.shown < page.head.messages.total) return null;
    const n = page.head.n, from = page.array("from"), to = page.array("to"), mixed = page.array("mixed");
    if (!this.usedOn) {
      this.usedOn = new Map();
      for (let i = 0; i < mixed.length; i++) {
        if (mixed[i]) this.usedOn.set(from[i] * n + to[i], (this.usedOn.get(from[i] * n + to[i]) || 0) + 1);
      }
    }
    return this.usedOn.get(src * n + dst) || 0;
  },

  // What most losses on a link were caused by.
  causes(src, dst) {
    if (!page.has("sent")) return "";
    const from = page.array("from"), to = page.array("to"), fate = page.array("fate");
    const counts = new Map();
    for (let i = 0; i < from.length; i++) {
      if (from[i] !== src || to[i] !== dst) continue;
      const name = page.head.messages.fates[fate[i]];
      if (name !== "delivered" && name !== "in flight") counts.set(name, (counts.get(name) || 0) + 1);
    }
    return [...counts].sort((a, b) => b[1] - a[1]).slice(0, 2).map(([name, count]) => `${name} ${count}`).join(", ");
  },

  list(rows) {
    const place = document.getElementById("underway");
    place.querySelector("summary").textContent = `Messages under way: ${rows.length}`;
    const items = rows.slice(0, 300).map((i) => {
      const kind = page.head.messages.kinds[page.array("kind")[i]], fate = page.head.messages.fates[page.array("fate")[i]];
      return `${page.array("from")[i]} to ${page.array("to")[i]}: ${kind}, ${amount(page.array("size")[i], "B")}, ${fate}`;
    });
    if (place.open || !this.playing) place.querySelector("ul").replaceChildren(...items.map((text) => element("li", { textContent: text })));
  },

  legend() {
    const place = document.getElementById("legend");
    place.replaceChildren();
    const sign = (shape) => {
      const holder = element("span");
      const svg = vector("svg", { width: 14, height: 12, viewBox: "0 0 14 12", "aria-hidden": true });
      svg.append(vector("path", shape));
      holder.append(svg);
      return holder;
    };
    const add = (shape, text) => { const made = sign(shape); made.append(text); place.append(made); };
    if (page.has("sent")) {
      const { fates, total, shown } = page.head.messages;
      fates.forEach((fate, k) => add(
        fate === "delivered" || fate === "in flight"
          ? { d: "M7 2a4 4 0 1 0 .01 0", fill: fateColor(fate) }
          : { d: "M3 2l8 8M3 10l8-8", stroke: fateColor(fate), "stroke-width": 2 },
        fate,
      ));
      if (shown < total) place.append(element("span", { textContent: `${shown.toLocaleString("en")} of ${total.toLocaleString("en")} messages, chosen at random` }));
    }
    LINK_COLORS.map(color).forEach((stroke, k) => add({ d: "M1 6h12", stroke, "stroke-width": 2.6 - 0.5 * k }, `link: ${25 * k} to ${25 * (k + 1)} % delivered`));
    const { name, label, falls } = page.head.metric;
    if (page.has(`score:${name}`)) {
      place.append(element("span", { textContent: `devices: the brighter and bluer, the ${falls ? "lower" : "higher"} the ${label}; gray ones are down` }));
    }
    if (!page.head.placed) place.append(element("span", { textContent: "devices have no places in this scenario: they are laid out by their links" }));
  },
};
