"use strict";
// The timeline: a row per device: training, sending, receiving, waiting, asleep, down; ticks where rounds end; arrows of
// messages when zoomed in: of those that mixes used, or of all. What a device does is told by where in its row a bar lies and
// how tall it is, and by color.

// Of each bar: its top and height as shares of the row, and its color.
const BARS = {
  receiving: { top: 0.04, tall: 0.18, fill: "--heard" },
  training: { top: 0.3, tall: 0.4, fill: "--best" },
  waiting: { top: 0.46, tall: 0.08, fill: "--faint" },
  sending: { top: 0.78, tall: 0.18, fill: "--strong" },
};

const MOST_ARROWS = 600; // more would hide each other

const timeline = {
  from: 0,
  to: 1,
  used: false, // whether arrows are of the messages that mixes used, and not of all

  start() {
    this.canvas = document.getElementById("rows");
    if (!page.has("round_first")) {
      document.getElementById("timeline").hidden = true;
      return;
    }
    this.to = page.head.end;
    const n = page.head.n;
    this.height = n <= 600 ? Math.max(9, Math.min(24, 560 / n)) : 5400 / n; // a canvas has an end
    if (page.has("sent")) this.bySender();
    this.gather();
    this.used = page.has("mixed");
    if (this.used) this.choices();
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.drag(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("dblclick", () => this.show(0, page.head.end));
    window.addEventListener("resize", () => this.draw());
    page.watch((what) => (what === "time" ? this.mark() : this.draw()));
    this.legend();
    this.draw();
  },

  choices() {
    const group = document.getElementById("arrows");
    group.hidden = false;
    group.append("arrows:");
    for (const [used, text] of [[true, "messages that mixes used"], [false, "all messages"]]) {
      const button = element("button", { type: "button", textContent: text });
      button.setAttribute("aria-pressed", String(used === this.used));
      button.addEventListener("click", () => {
        this.used = used;
        for (const other of group.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
        this.tellArrows();
        this.draw();
      });
      group.append(button);
    }
  },

  // The rows of messages of each sender, in order of time.
  bySender() {
    const from = page.array("from");
    this.sends = Array.from({ length: page.head.n }, () => []);
    for (let i = 0; i < from.length; i++) this.sends[from[i]].push(i);
  },

  // What each device did when: per activity its spans, those that overlap as one.
  gather() {
    const spans = () => Array.from({ length: page.head.n }, () => ({ starts: [], ends: [] }));
    const sending = spans(), receiving = spans();
    const add = (span, start, end) => { span.starts.push(start); span.ends.push(end); };
    if (this.sends) this.transmissions((k, start, end) => add(sending[k], start, end), (k, start, end) => add(receiving[k], start, end));
    const down = spans();
    for (const [k, from, to] of page.head.down) add(down[k], partOf(from), partOf(to));
    const from = page.array("train_from"), to = page.array("train_to"), first = page.array("train_first");
    const training = Array.from(down, (_, k) => ({ starts: from.slice(first[k], first[k + 1]), ends: to.slice(first[k], first[k + 1]) }));
    const joined = (...parts) => united(Uint32Array.from(parts.flatMap((part) => [...part.starts])), Uint32Array.from(parts.flatMap((part) => [...part.ends])));
    this.rows = Array.from(down, (_, k) => {
      const busy = joined(training[k], sending[k], receiving[k], down[k]);
      return {
        training: joined(training[k]), sending: joined(sending[k]), receiving: joined(receiving[k]),
        waiting: { from: Uint32Array.from([0, ...busy.to]), to: Uint32Array.from([...busy.from, PARTS]) },
      };
    });
  },

  // Tell when each message keeps its sender and its receiver busy. A sender is busy from when the message is handed over until
  // it arrives less the least latency of the link: a message may queue. A receiver is busy for its time on air before it arrives.
  transmissions(sends, hears) {
    const sent = page.array("sent"), gone = page.array("gone"), from = page.array("from"), to = page.array("to"), fate = page.array("fate");
    const air = page.array("air"), n = page.head.n;
    const least = new Map(); // link -> least latency
    for (let i = 0; air && i < sent.length; i++) {
      const link = from[i] * n + to[i], latency = Math.max(gone[i] - sent[i] - air[i], 0);
      if (map.arrives[fate[i]] && !(latency >= least.get(link))) least.set(link, latency);
    }
    for (let i = 0; i < sent.length; i++) {
      const arrives = map.arrives[fate[i]];
      const latency = arrives ? least.get(from[i] * n + to[i]) : 0;
      const left = arrives ? gone[i] - latency : air ? Math.min(sent[i] + air[i], gone[i]) : 0;
      sends(from[i], sent[i], air ? Math.max(left, sent[i]) : sent[i]);
      if (arrives) hears(to[i], air ? Math.max(gone[i] - air[i], sent[i]) : gone[i], gone[i]);
    }
  },

  show(from, to) {
    const span = Math.min(Math.max(to - from, 1e-6 * page.head.end), page.head.end);
    this.from = Math.min(Math.max(from, 0), page.head.end - span);
    this.to = this.from + span;
    this.draw();
  },

  // Only with Ctrl, as pinching has it too: the wheel alone scrolls the page.
  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.zoom(Math.exp(event.deltaY * 0.0015), this.timeAt(event.offsetX));
  },

  zoom(by, at = (this.from + this.to) / 2) {
    this.show(at - (at - this.from) * by, at + (this.to - at) * by);
  },

  key(event) {
    const step = (this.to - this.from) / 10;
    if (event.key === "+" || event.key === "=") this.zoom(0.7);
    else if (event.key === "-") this.zoom(1 / 0.7);
    else if (event.key === "ArrowRight") this.show(this.from + step, this.to + step);
    else if (event.key === "ArrowLeft") this.show(this.from - step, this.to - step);
    else if (event.key === "Home") this.show(0, page.head.end);
    else return;
    event.preventDefault();
  },

  drag(event) {
    const [begun, from, to] = [event.clientX, this.from, this.to];
    let moved = false;
    const move = (next) => {
      const by = ((begun - next.clientX) / (this.canvas.clientWidth - this.left)) * (to - from);
      if (Math.abs(next.clientX - begun) > 3) moved = true;
      if (moved) this.show(from + by, to + by);
    };
    const done = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", done);
      if (!moved) page.setTime(this.timeAt(event.offsetX));
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", done);
  },

  left: 44, // px for the devices' numbers
  timeAt(x) { return this.from + ((x - this.left) / (this.canvas.clientWidth - this.left)) * (this.to - this.from); },

  draw() {
    const n = page.head.n, tall = n * this.height + 26;
    const [context, width] = prepared(this.canvas, tall);
    if (!width) return;
    context.clearRect(0, 0, width, tall);
    const scale = (width - this.left) / (this.to - this.from);
    const px = (seconds) => this.left + (seconds - this.from) * scale;
    const [low, high] = [partOf(this.from), Math.min(partOf(this.to), PARTS)];
    context.font = "10px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let k = 0; k < n; k++) {
      const y = k * this.height;
      context.fillStyle = page.selected.has(k) ? color("--band") : k % 2 ? "transparent" : color("--paper");
      context.fillRect(this.left, y, width, this.height);
      context.fillStyle = page.selected.has(k) ? color("--worst") : color("--faint");
      context.textAlign = "right";
      if (this.height >= 9 || k % Math.ceil(12 / this.height) === 0) context.fillText(String(k), this.left - 6, Math.max(y + this.height / 2, 6));
    }
    context.save();
    context.beginPath();
    context.rect(this.left, 0, width - this.left, n * this.height);
    context.clip();
    this.bars(context, px, low, high, "waiting", 0); // thin ones add up to their share
    this.sleeps(context, px);
    this.deafness(context, px, low, high);
    for (const activity of ["training", "receiving", "sending"]) this.bars(context, px, low, high, activity, 0.6);
    this.ticks(context, px, low, high, width - this.left);
    this.downs(context, px, width);
    if (this.sends) this.messages(context, px, low, high);
    context.restore();
    this.scale(context, px, width, n * this.height);
    this.kept = element("canvas", { width: this.canvas.width, height: this.canvas.height });
    this.kept.getContext("2d").drawImage(this.canvas, 0, 0);
    this.mark();
  },

  // A line where the replay is, over the rows as they were drawn last.
  mark() {
    if (!this.kept) return; // hidden
    const { width, height } = this.kept;
    const context = this.canvas.getContext("2d"), ratio = width / this.canvas.clientWidth;
    const x = this.left + ((page.time - this.from) / (this.to - this.from)) * (this.canvas.clientWidth - this.left);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.drawImage(this.kept, 0, 0);
    if (page.time < this.from || page.time > this.to) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.strokeStyle = color("--worst");
    context.lineWidth = 1;
    context.setLineDash([4, 3]);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, page.head.n * this.height);
    context.stroke();
    context.setLineDash([]);
  },

  // The bars of an activity, each at least so many px wide; of those that are too close to tell apart, one.
  bars(context, px, low, high, activity, least) {
    const { top, tall, fill } = BARS[activity];
    context.fillStyle = color(fill);
    this.rows.forEach((row, k) => {
      const { from, to } = row[activity];
      const y = (k + top) * this.height, height = Math.max(tall * this.height, 1);
      let drawn = -Infinity;
      for (let i = after(to, low); i < to.length && from[i] <= high; i++) {
        const [x0, x1] = [px(secondsOf(from[i])), px(secondsOf(to[i]))];
        if (least && x1 < drawn + 0.5) continue;
        context.fillRect(x0, y, Math.max(x1 - x0, least), height);
        drawn = x1;
      }
    });
  },

  // Where rounds end: each one, or where those lie too close each 10th, 100th and so on.
  ticks(context, px, low, high, width) {
    const rounds = page.array("round_at"), first = page.array("round_first");
    const begins = this.rows.map((_, k) => after(rounds, low, first[k], first[k + 1]));
    const ends = this.rows.map((_, k) => after(rounds, high, first[k], first[k + 1]));
    const most = Math.max(...ends.map((end, k) => end - begins[k]));
    let every = 1;
    while ((every * width) / most < 5) every *= 10;
    context.fillStyle = color("--ink");
    this.rows.forEach((_, k) => {
      const y = (k + 0.12) * this.height;
      for (let i = begins[k]; i < ends[k]; i++) {
        if ((i - first[k] + 1) % every === 0) context.fillRect(px(secondsOf(rounds[i])) - 0.5, y, 1, 0.76 * this.height);
      }
    });
    every *= page.head.round_every;
    this.tick.textContent = every === 1 ? "a round ends" : `each ${every}th round of a device ends`;
  },

  // Radios that sleep in a rhythm: gray between two wakings, where those are far enough apart to see.
  sleeps(context, px) {
    const { awake_from_s: first, awake_s: awake, awake_every_s: period } = page.head.devices;
    if (!first) return;
    context.fillStyle = color("--line");
    for (let k = 0; k < Math.min(page.head.n, first.length); k++) {
      if (first[k] === null) continue;
      const y = k * this.height + 1;
      if (px(this.from + period[k] - awake[k]) - this.left < 1) { // too close together: a band as strong as it sleeps long
        context.globalAlpha = 1 - awake[k] / period[k];
        context.fillRect(this.left, y, px(this.to) - this.left, this.height - 2);
        context.globalAlpha = 1;
        continue;
      }
      for (let turn = Math.floor((this.from - first[k]) / period[k]); first[k] + turn * period[k] <= this.to; turn++) {
        const [x0, x1] = [px(first[k] + turn * period[k] + awake[k]), px(first[k] + (turn + 1) * period[k])];
        context.fillRect(x0, y, x1 - x0, this.height - 2);
      }
    }
  },

  // Times at which random outages leave a device without any link to it.
  deafness(context, px, low, high) {
    if (!page.has("deaf_first")) return;
    const from = page.array("deaf_from"), to = page.array("deaf_to"), first = page.array("deaf_first");
    context.fillStyle = this.hatching(context, color("--faint"));
    for (let k = 0; k < page.head.n; k++) {
      for (let i = after(to, low, first[k], first[k + 1]); i < first[k + 1] && from[i] <= high; i++) {
        const [x0, x1] = [px(secondsOf(from[i])), px(secondsOf(to[i]))];
        context.fillRect(x0, k * this.height + 1, x1 - x0, this.height - 2); // thin ones add up to their share
      }
    }
  },

  // Lines that rise to the right, 6 px apart.
  hatching(context, stroke) {
    const tile = element("canvas", { width: 6, height: 6 });
    const inside = tile.getContext("2d");
    inside.strokeStyle = stroke;
    for (const x of [-6, 0, 6]) { inside.moveTo(x, 6); inside.lineTo(x + 6, 0); }
    inside.stroke();
    return context.createPattern(tile, "repeat");
  },

  downs(context, px, width) {
    context.fillStyle = context.strokeStyle = color("--worst");
    context.lineWidth = 1;
    context.textAlign = "left";
    for (const [device, from, to] of page.head.down) {
      const y = device * this.height, x0 = Math.max(px(from), this.left), x1 = Math.min(px(to), width);
      if (px(to) < this.left || x0 > width) continue;
      context.globalAlpha = 0.35;
      context.fillRect(x0, y + 1, Math.max(x1 - x0, 1), this.height - 2);
      context.globalAlpha = 1;
      context.strokeRect(x0 + 0.5, y + 1.5, Math.max(x1 - x0 - 1, 0), this.height - 3);
      if (x1 - x0 > 36) context.fillText("down", x0 + 4, y + this.height / 2);
    }
  },

  // The messages whose arrows are in view, in order of sender and time, of the chosen devices if there are any; null: too many.
  inView(low, high) {
    const sent = page.array("sent"), from = page.array("from"), to = page.array("to"), chosen = page.selected;
    const ends = this.used ? page.array("mixed") : page.array("gone");
    const found = [];
    for (const sends of this.sends) {
      for (const i of sends) {
        if (sent[i] > high) break;
        if (ends[i] < low || (this.used && !ends[i])) continue;
        if (chosen.size && !chosen.has(from[i]) && !chosen.has(to[i])) continue;
        if (found.push(i) > MOST_ARROWS) return null;
      }
    }
    return found;
  },

  // An arrow leads from the sender's bar to the receiver's as the message travels; one that a mix used, then on to the mix.
  messages(context, px, low, high) {
    const sent = page.array("sent"), gone = page.array("gone"), from = page.array("from"), to = page.array("to"), fate = page.array("fate");
    const mixed = page.array("mixed");
    const shown = this.inView(low, high) || [];
    context.globalAlpha = shown.length < 100 ? 0.9 : 0.75;
    context.lineWidth = shown.length < 100 ? 1.6 : 1;
    for (const i of shown) {
      const arrives = map.arrives[fate[i]];
      const [x0, y0] = [px(secondsOf(sent[i])), (from[i] + 0.87) * this.height];
      const side = this.used || from[i] > to[i] ? 0.26 : 0.02; // beside the receiver's bar
      const [x1, y1] = [px(secondsOf(gone[i])), (to[i] + side) * this.height];
      const [x, y] = arrives ? [x1, y1] : [x0 + 0.6 * (x1 - x0), y0 + 0.6 * (y1 - y0)];
      context.strokeStyle = context.fillStyle = map.colors[fate[i]];
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x, y);
      if (map.isLost[fate[i]]) { context.moveTo(x - 3, y - 3); context.lineTo(x + 3, y + 3); context.moveTo(x - 3, y + 3); context.lineTo(x + 3, y - 3); }
      const tip = this.used ? Math.max(px(secondsOf(mixed[i])), x) : x;
      if (this.used) context.lineTo(tip, y);
      context.stroke();
      if (arrives) this.head(context, tip, y, tip > x ? 0 : Math.atan2(y1 - y0, x1 - x0));
    }
    context.globalAlpha = 1;
  },

  // The head of an arrow whose tip is at a point.
  head(context, x, y, angle) {
    context.beginPath();
    context.moveTo(x, y);
    for (const side of [-0.4, 0.4]) context.lineTo(x - 7 * Math.cos(angle + side), y - 7 * Math.sin(angle + side));
    context.fill();
  },

  scale(context, px, width, y) {
    const by = SECONDS.find((size) => (this.to - this.from) / size <= 10) || this.to - this.from;
    const places = [];
    context.fillStyle = color("--faint");
    context.textAlign = "center";
    for (let at = Math.ceil(this.from / by) * by; at <= this.to; at += by) {
      const x = px(at);
      context.fillRect(x, y, 1, 4);
      if (x > this.left + 12 && x < width - 16) places.push([x, at]);
    }
    durations(places.map(([, at]) => at)).forEach((text, k) => context.fillText(text, places[k][0], y + 14));
  },

  legend() {
    const place = document.getElementById("rows-legend");
    const [wide, tall] = [22, 16];
    const add = (text, { top = 0, tall: share = 1, fill = "none", stroke = "none", path = "", opacity = 1 }) => {
      const svg = vector("svg", { width: wide, height: tall, viewBox: `0 0 ${wide} ${tall}`, "aria-hidden": true });
      svg.append(vector("rect", { y: top * tall, width: wide, height: share * tall, opacity }));
      svg.append(vector("path", { d: path, fill: "none" }));
      svg.firstChild.style.fill = fill.startsWith("--") ? `var(${fill})` : fill;
      svg.lastChild.style.stroke = stroke.startsWith("--") ? `var(${stroke})` : stroke;
      const words = element("span", { textContent: text });
      place.append(element("span", {}, svg, words));
      return words;
    };
    const { shown: spans, total: trainings } = page.head.trainings;
    add(spans < trainings ? `training (${trainings.toLocaleString("en")} in all; the shortest pauses are left out)` : "training", BARS.training);
    if (this.sends) {
      const { shown, total } = page.head.messages;
      add(page.has("air") ? "sending: a message is on air or queues" : "sending", BARS.sending);
      add(page.has("air") ? "receiving: a message that arrives is on air" : "receiving: a message arrives", BARS.receiving);
      add(shown < total ? "waiting: none of these, as far as messages are shown" : "waiting: none of these", BARS.waiting);
    } else {
      add("not training (this run kept no trace of its messages)", BARS.waiting);
    }
    this.tick = add("a round ends", { stroke: "--ink", path: "M11 2V14" });
    if (page.head.devices.awake_from_s) add("asleep", { fill: "--line" });
    if (page.has("deaf_first")) add("an outage, in which it hears nobody", { stroke: "--faint", path: "M0 8L8 0M0 16L16 0M6 16L22 0M14 16L22 8" });
    if (page.head.down.length) add("down", { fill: "--worst", opacity: 0.35, stroke: "--worst", path: "M.5 .5H21.5V15.5H.5z" });
    if (this.sends) {
      place.append(this.arrowWords = element("span"));
      this.tellArrows();
    }
  },

  tellArrows() {
    this.arrowWords.textContent = this.used
      ? "zoomed in: arrows of messages whose model entered that of the receiver: sent, arrived, and on to the mix"
      : "zoomed in: arrows lead to where messages arrive, and end in a cross where they are lost";
    this.arrowWords.textContent += "; of chosen devices only, if there are any";
  },
};
