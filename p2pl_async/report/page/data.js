"use strict";
// What the page shows: `head` (JSON), `array(name)` (typed arrays), and the state that all parts share.

const page = {
  head: JSON.parse(document.getElementById("head").textContent),
  arrays: new Map(),
  selected: new Set(), // devices
  time: 0, // virtual seconds; where the replay is
  listeners: [], // called with "time", "selection" or "colors"

  array(name) { return this.arrays.get(name); },
  has(name) { return this.arrays.has(name); },
  watch(listener) { this.listeners.push(listener); },
  tell(what) { for (const listener of this.listeners) listener(what); },

  // Tell all parts when colors or widths change: the system turns dark or light, or the page is printed, which is always light.
  followColors() {
    const print = (printed) => {
      document.documentElement.classList.toggle("printed", printed);
      this.tell("colors");
    };
    window.addEventListener("beforeprint", () => print(true));
    window.addEventListener("afterprint", () => print(false));
    matchMedia(DARK).addEventListener("change", () => this.tell("colors"));
  },

  setTime(time) {
    this.time = Math.min(Math.max(time, 0), this.head.end);
    this.tell("time");
  },
  select(devices) {
    this.selected = new Set(devices);
    this.tell("selection");
  },
  toggle(device) {
    const now = new Set(this.selected);
    if (!now.delete(device)) now.add(device);
    this.select(now);
  },

  async unpack() {
    const text = atob(document.getElementById("data").textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const types = { Float32Array, Uint32Array, Uint16Array, Uint8Array };
    for (const part of JSON.parse(document.getElementById("layout").textContent)) {
      this.arrays.set(part.name, new types[part.type](buffer, part.at, part.length));
    }
  },
};

const PARTS = 2 ** 32 - 1; // of the run's length, in which instants of messages are told
const secondsOf = (part) => (part / PARTS) * page.head.end;
const partOf = (seconds) => (seconds / page.head.end) * PARTS;

// Okabe and Ito: told apart by color-blind readers.
const CAUSES = ["#d55e00", "#e69f00", "#cc79a7", "#7a5195", "#8c564b", "#5f6b76", "#b0a000"];
const DARK = "(prefers-color-scheme: dark)";
const isPrinted = () => document.documentElement.classList.contains("printed");
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function fateColor(fate) {
  if (fate === "delivered") return color("--strong");
  if (fate === "in flight") return color("--faint");
  const causes = page.head.messages.fates.filter((name) => name !== "delivered" && name !== "in flight");
  return CAUSES[causes.indexOf(fate) % CAUSES.length];
}

function duration(seconds) {
  if (seconds === null || !isFinite(seconds)) return "-";
  if (seconds === 0) return "0 s";
  const size = Math.abs(seconds);
  if (size < 1e-3) return `${(seconds * 1e6).toPrecision(3)} µs`;
  if (size < 1) return `${(seconds * 1e3).toPrecision(3)} ms`;
  if (size < 120) return `${+seconds.toPrecision(4)} s`;
  if (size < 7200) return `${+(seconds / 60).toPrecision(4)} min`;
  return `${+(seconds / 3600).toPrecision(4)} h`;
}

function amount(value, unit) {
  if (value === null || !isFinite(value)) return "-";
  if (unit === "s") return duration(value);
  if (unit === "%") return `${value.toFixed(2)} %`;
  if (unit === "B" || unit === "J") {
    const steps = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"]];
    const [size, prefix] = steps.find(([size]) => Math.abs(value) >= size) || [1, ""];
    return `${+(value / size).toPrecision(4)} ${prefix}${unit}`;
  }
  return Math.abs(value) >= 1e4 ? Math.round(value).toLocaleString("en") : `${+value.toPrecision(4)}`;
}

// Distances between the ticks of an axis in seconds.
const SECONDS = [
  ...[-6, -5, -4, -3, -2, -1, 0].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power)),
  10, 20, 30, ...[1, 2, 5, 10, 20, 30].map((minutes) => 60 * minutes),
  ...[1, 2, 4, 6, 12, 24, 48, 96, 240, 480, 2400, 24000].map((hours) => 3600 * hours),
];

// Ticks of an axis in seconds, all in the unit that fits the last.
function durations(ticks) {
  const most = Math.max(...ticks.filter((tick) => tick !== null).map(Math.abs), 0);
  const [size, unit] = [[3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"]].find(([size]) => most >= 2 * size) || [1e-6, "µs"];
  return ticks.map((tick) => (tick === null ? "" : `${+(tick / size).toPrecision(6)} ${unit}`));
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

function vector(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A canvas in device pixels; returns its context, width and height in CSS pixels.
function prepared(canvas, height) {
  const ratio = isPrinted() ? 2 : window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  if (height) canvas.style.height = `${height}px`;
  const tall = height || canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(tall * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(tall * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return [context, width, tall];
}

// The first index whose value is above `value`, in an ascending array.
function after(array, value, low = 0, high = array.length) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (array[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The union of spans of time that may overlap, as ascending starts and ends; it sorts both arrays in place. A span without
// length stays one unless another covers it.
function united(starts, ends) {
  starts.sort();
  ends.sort();
  const from = [], to = [];
  for (let i = 0, k = 0, open = 0; k < ends.length;) {
    if (i < starts.length && starts[i] <= ends[k]) {
      if (!open++) from.push(starts[i]);
      i++;
    } else {
      if (!--open) to.push(ends[k]);
      k++;
    }
  }
  return { from: Uint32Array.from(from), to: Uint32Array.from(to) };
}
