// Elements, numbers and curves. Whatever comes from mail is put in as text, never as markup.
const $ = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child != null).map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const cell = (text, kind) => el("td", { class: kind, title: kind === "cut" && text ? text : null }, text);
const word = (text) => el("span", { class: "word " + text }, text);

function fill(table, rows, empty) {
  const body = table.tBodies[0];
  if (!rows.length) rows = [el("tr", {}, el("td", { class: "empty", colspan: 9 }, empty || "nothing yet"))];
  body.replaceChildren(...rows);
}

function short(n) {
  if (!Number.isFinite(n)) return "–";
  if (n >= 1e9) return (n / 1e9).toFixed(1) + " G";
  if (n >= 1e6) return (n / 1e6).toFixed(1) + " M";
  if (n >= 1e4) return Math.round(n / 1e3) + " k";
  if (n >= 10 || Number.isInteger(n)) return String(Math.round(n));
  return n.toFixed(1);
}

function octets(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (n >= 1024 && place < units.length - 1) { n /= 1024; place += 1; }
  return (n >= 10 || place === 0 ? Math.round(n) : n.toFixed(1)) + " " + units[place];
}

function time(s) {
  if (s == null || Number.isNaN(s)) return "–";
  if (s === Infinity) return "longer";
  if (s < 0.001) return Math.round(s * 1e6) + " µs";
  if (s < 1) return (s < 0.01 ? (s * 1e3).toFixed(1) : Math.round(s * 1e3)) + " ms";
  if (s < 90) return (s < 10 ? s.toFixed(1) : Math.round(s)) + " s";
  return span(s);
}

function span(s) {
  s = Math.floor(s);
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

function clock(ms) {
  const at = new Date(ms);
  return el("time", { datetime: at.toISOString(), title: at.toLocaleString() }, at.toTimeString().slice(0, 8));
}

const total = (map) => Object.values(map || {}).reduce((sum, n) => sum + n, 0);

// The quantile of counts in places with upper bounds: the bound of its place.
function quantile(bounds, counts, q) {
  const all = counts.reduce((sum, n) => sum + n, 0);
  if (!all) return NaN;
  let seen = 0;
  for (let i = 0; i < counts.length; i += 1) {
    seen += counts[i];
    if (seen >= all * q) return i < bounds.length ? bounds[i] : Infinity;
  }
  return NaN;
}

// What a histogram has gained since an earlier look.
function gained(now, before) {
  if (!now) return null;
  return now.counts.map((n, i) => n - (before ? before.counts[i] : 0));
}

function niceMost(most) {
  if (most <= 1) return 1;
  const size = Math.pow(10, Math.floor(Math.log10(most)));
  return [1, 2, 5, 10].map((n) => n * size).find((n) => n >= most);
}

// Two curves over time, the newest at the right.
function curves(place, series, points) {
  const width = 1000, height = 170, left = 42, bottom = 18;
  const most = niceMost(Math.max(1, ...series.flatMap((s) => s.values)));
  const x = (i, n) => left + ((width - left) * (points - n + i)) / (points - 1);
  const y = (v) => (height - bottom) * (1 - v / most) + 4;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const part of [0, 0.5, 1]) {
    drawing.append(svg("line", { class: "gridline", x1: left, x2: width, y1: y(most * part), y2: y(most * part) }));
  }
  for (const { values, kind } of series) {
    if (values.length < 2) continue;
    const path = values.map((v, i) => `${x(i, values.length).toFixed(1)},${y(v).toFixed(1)}`);
    if (kind === "taken") {
      const end = `${width},${y(0)} ${x(0, values.length).toFixed(1)},${y(0)}`;
      drawing.append(svg("polygon", { class: "area", points: path.join(" ") + " " + end }));
    }
    drawing.append(svg("polyline", { class: "line " + kind, points: path.join(" ") }));
  }
  // Words are not stretched with the drawing: they have one of their own.
  const words = svg("svg", { "aria-hidden": "true" });
  const text = (content, attributes) => { const made = svg("text", attributes); made.textContent = content; return made; };
  const label = (part) => text(short(most * part), { x: 0, y: `${(100 * (y(most * part) + (part === 1 ? 8 : 3))) / height}%` });
  words.append(label(0), label(0.5), label(1));
  words.append(text("3 minutes ago", { x: "4.5%", y: "98%" }), text("now", { x: "100%", y: "98%", "text-anchor": "end" }));
  drawing.style.position = "absolute";
  place.style.position = "relative";
  place.replaceChildren(drawing, words);
}

function bars(bounds, counts, show) {
  const first = Math.max(0, counts.findIndex((n) => n > 0) - 1);
  let last = counts.length - 1;
  while (last > first && !counts[last]) last -= 1;
  last = Math.min(counts.length - 1, Math.max(last + 1, first + 5));
  const shown = counts.slice(first, last + 1);
  const most = Math.max(...shown, 1);
  const drawing = svg("svg", { viewBox: `0 0 ${shown.length * 10} 40`, preserveAspectRatio: "none", "aria-hidden": "true" });
  shown.forEach((n, i) => {
    const height = n ? Math.max(1.5, (38 * n) / most) : 0.6;
    drawing.append(svg("rect", { x: i * 10 + 0.6, y: 40 - height, width: 8.8, height, rx: 0.8 }));
  });
  const bound = (i) => (i < bounds.length ? "≤ " + show(bounds[i]) : "more");
  const axis = el("div", { class: "axis", "aria-hidden": "true" }, el("span", {}, bound(first)), el("span", {}, bound(last)));
  return [drawing, axis];
}

async function ask(path, body) {
  const how = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, how);
  const value = await response.json();
  if (!response.ok) throw new Error(value.error ? value.error.message : "status " + response.status);
  return value;
}
