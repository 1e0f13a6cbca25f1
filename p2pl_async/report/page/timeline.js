"use strict";
// The timeline: a row per device: training, sending, asleep, down; ticks where rounds end; arrows of messages when zoomed in.

const timeline = {
  from: 0,
  to: 1,

  start() {
    this.canvas = document.getElementById("rows");
    if (!page.has("round_first")) {
      document.getElementById("timeline").hidden = true;
      return;
    }
    this.to = page.head.end;
    this.height = Math.max(9, Math.min(24, 560 / page.head.n));
    if (page.has("sent")) this.bySender();
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.drag(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("dblclick", () => this.show(0, page.head.end));
    window.addEventListener("resize", () => this.draw());
    page.watch(() => this.draw());
    this.legend();
    this.draw();
  },

  // The rows of messages of each sender, in order of time.
  bySender() {
    const from = page.array("from");
    this.sends = Array.from({ length: page.head.n }, () => []);
    for (let i = 0; i < from.length; i++) this.sends[from[i]].push(i);
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
      if (this.height >= 9) context.fillText(String(k), this.left - 6, y + this.height / 2);
    }
    context.save();
    context.beginPath();
    context.rect(this.left, 0, width - this.left, n * this.height);
    context.clip();
    this.sleeps(context, px);
    this.deafness(context, px, low, high);
    this.trainings(context, px, low, high);
    this.downs(context, px);
    if (this.sends) this.messages(context, px, low, high, width);
    context.strokeStyle = color("--worst");
    context.setLineDash([4, 3]);
    context.beginPath();
    context.moveTo(px(page.time), 0);
    context.lineTo(px(page.time), tall);
    context.stroke();
    context.restore();
    this.scale(context, px, width, n * this.height);
  },

  trainings(context, px, low, high) {
    const from = page.array("train_from"), to = page.array("train_to"), first = page.array("train_first");
    const rounds = page.array("round_at"), firstRound = page.array("round_first");
    for (let k = 0; k < page.head.n; k++) {
      const y = k * this.height;
      context.fillStyle = color("--best");
      let drawn = -Infinity; // px; bars closer than a pixel are one
      for (let i = after(to, low, first[k], first[k + 1]); i < first[k + 1] && from[i] <= high; i++) {
        const [x0, x1] = [px(secondsOf(from[i])), px(secondsOf(to[i]))];
        if (x1 < drawn + 0.5) continue;
        context.fillRect(x0, y + this.height * 0.3, Math.max(x1 - x0, 0.6), this.height * 0.4);
        drawn = x1;
      }
      context.fillStyle = color("--ink");
      drawn = -Infinity;
      for (let i = after(rounds, low, firstRound[k], firstRound[k + 1]); i < firstRound[k + 1] && rounds[i] <= high; i++) {
        const x = px(secondsOf(rounds[i]));
        if (x < drawn + 2.5) continue;
        context.fillRect(x - 0.5, y + this.height * 0.12, 1, this.height * 0.76);
        drawn = x;
      }
    }
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
    context.fillStyle = color("--line");
    for (let k = 0; k < page.head.n; k++) {
      for (let i = after(to, low, first[k], first[k + 1]); i < first[k + 1] && from[i] <= high; i++) {
        const [x0, x1] = [px(secondsOf(from[i])), px(secondsOf(to[i]))];
        context.fillRect(x0, k * this.height + 1, x1 - x0, this.height - 2); // thin ones add up to their share
      }
    }
  },

  downs(context, px) {
    context.fillStyle = color("--worst");
    for (const [device, from, to] of page.head.down) {
      const y = device * this.height;
      context.globalAlpha = 0.35;
      context.fillRect(px(from), y + 1, Math.max(px(to) - px(from), 1), this.height - 2);
      context.globalAlpha = 1;
      context.fillText("down", Math.max(px(from) + 28, this.left + 28), y + this.height / 2);
    }
  },

  messages(context, px, low, high, width) {
    const sent = page.array("sent"), gone = page.array("gone"), to = page.array("to"), fate = page.array("fate");
    let shown = 0;
    for (let k = 0; k < page.head.n; k++) {
      const y = k * this.height;
      context.fillStyle = color("--strong");
      let drawn = -Infinity;
      for (const i of this.sends[k]) {
        if (sent[i] > high) break;
        if (gone[i] < low) continue;
        if (sent[i] >= low) shown++;
        const [x0, x1] = [px(secondsOf(sent[i])), px(secondsOf(gone[i]))];
        if (x1 < drawn + 0.5) continue;
        context.fillRect(x0, y + this.height * 0.76, Math.max(x1 - x0, 0.6), this.height * 0.18);
        drawn = x1;
      }
    }
    if (shown > 600) return;
    for (let k = 0; k < page.head.n; k++) {
      for (const i of this.sends[k]) {
        if (sent[i] > high) break;
        if (gone[i] < low) continue;
        const arrives = map.arrives[fate[i]];
        const [x0, y0] = [px(secondsOf(sent[i])), (k + 0.5) * this.height];
        const [x1, y1] = [px(secondsOf(gone[i])), (to[i] + 0.5) * this.height];
        const [x, y] = arrives ? [x1, y1] : [x0 + 0.6 * (x1 - x0), y0 + 0.6 * (y1 - y0)];
        context.strokeStyle = context.fillStyle = map.colors[fate[i]];
        context.globalAlpha = 0.75;
        context.lineWidth = 1;
        context.beginPath();
        context.moveTo(x0, y0);
        context.lineTo(x, y);
        if (!arrives) { context.moveTo(x - 3, y - 3); context.lineTo(x + 3, y + 3); context.moveTo(x - 3, y + 3); context.lineTo(x + 3, y - 3); }
        context.stroke();
        if (arrives) { context.beginPath(); context.arc(x, y, 2.2, 0, 2 * Math.PI); context.fill(); }
      }
    }
    context.globalAlpha = 1;
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
    const add = (text) => place.append(element("span", { textContent: text }));
    add("green bar: training");
    if (this.sends) add("blue bar: a message of this device is under way");
    add("tick: a round ends");
    if (page.head.devices.awake_from_s) add("gray: asleep");
    if (page.has("deaf_first")) add("gray: an outage, in which it hears nobody");
    if (page.head.down.length) add("orange: down");
    if (this.sends) add("zoomed in: lines lead to where messages arrive, and end in a cross where they are lost");
  },
};
