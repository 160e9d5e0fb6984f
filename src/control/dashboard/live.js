// The page with live numbers: an overview every second, refusals as they are made.
const POINTS = 180, WINDOW = 60, REFUSALS = 500, SHOWN = 200;
const looks = [];
const traffic = { taken: [], refused: [] };
let refusals = [], found = null, paused = false, drawn = -1;

const REFUSED = new Set(["reject", "defer", "drop"]);
const refusedIn = (look) => look.verdicts.reduce((sum, v) => sum + (REFUSED.has(v.verdict) ? v.count : 0), 0);
const takenIn = (look) => total(look.messages) - (look.messages.refused || 0);

// Growth of a number a second over the last `n` looks.
function rate(of, n = 5) {
  if (looks.length < 2) return 0;
  const now = looks[looks.length - 1], before = looks[Math.max(0, looks.length - 1 - n)];
  const seconds = (now.at_ms - before.at_ms) / 1000;
  return seconds > 0 ? Math.max(0, of(now) - of(before)) / seconds : 0;
}

function look(overview) {
  if (looks.length && overview.status.pid !== looks[looks.length - 1].status.pid) looks.length = 0; // another process
  looks.push(overview);
  if (looks.length > WINDOW + 1) looks.shift();
  if (looks.length > 1) {
    traffic.taken.push(rate(takenIn, 1));
    traffic.refused.push(rate(refusedIn, 1));
  }
  for (const values of Object.values(traffic)) if (values.length > POINTS) values.shift();
  state(overview.status.draining ? "draining" : "live", overview.status.draining ? "" : "good");
  $("version").textContent = overview.status.version;
  if (!paused) draw();
}

function draw() {
  const now = looks[looks.length - 1];
  if (!now) return;
  if (!$("page-about").hidden) about(now.status);
  if ($("page-live").hidden) return;
  tiles(now);
  $("traffic-legend").replaceChildren(
    el("span", {}, `messages taken ${short(rate(takenIn))}/s`), el("span", { class: "refused" }, `refusals ${short(rate(refusedIn))}/s`));
  curves($("traffic"), [{ values: traffic.taken, kind: "taken" }, { values: traffic.refused, kind: "refused" }], POINTS);
  $("traffic").setAttribute("aria-label", `Messages taken ${short(rate(takenIn))} a second, refusals ${short(rate(refusedIn))} a second`);
  verdicts(now);
  latency(now);
  tops(now);
  backends(now);
  queue(now);
  machine(now);
}

function tiles(now) {
  const cores = now.cores.map((core, i) => rate((l) => (l.cores[i] ? l.cores[i].busy_s : 0)));
  const busy = cores.length ? Math.max(...cores) : 0;
  const all = [
    ["Messages taken", short(rate(takenIn)), "a second"],
    ["Sessions", short(rate((l) => total(l.sessions))), "a second"],
    ["Refusals", short(rate(refusedIn)), "a second"],
    ["Connections", short(now.status.connections), "open"],
    ["Queue", short(now.status.queued), now.queue.states.held ? `${short(now.queue.states.held)} held` : "messages"],
    ["Received", octets(rate((l) => total(l.received))), "a second"],
    ["Busiest core", Math.round(busy * 100) + " %", "of its time"],
    ["Memory", octets(now.process.resident), "resident"],
  ];
  $("tiles").replaceChildren(...all.map(([name, number, unit]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, number + " ", el("small", {}, unit)))));
}

function verdicts(now) {
  const key = (v) => [v.stage, v.rule, v.verdict].join("\u0000");
  const before = looks[Math.max(0, looks.length - 6)];
  const counts = new Map(before.verdicts.map((v) => [key(v), v.count]));
  const seconds = Math.max(0.001, (now.at_ms - before.at_ms) / 1000);
  const rows = now.verdicts.map((v) => ({ ...v, rate: before === now ? 0 : Math.max(0, v.count - (counts.get(key(v)) || 0)) / seconds }));
  rows.sort((a, b) => b.rate - a.rate || b.count - a.count);
  fill($("verdicts"), rows.slice(0, 30).map((v) =>
    el("tr", {}, el("th", { scope: "row" }, v.rule), cell(v.stage), el("td", {}, word(v.verdict)), cell(short(v.rate), "n"), cell(short(v.count), "n"))),
    "no decision yet");
}

function latency(now) {
  const before = looks[0];
  const all = [["reply", "End of a message to its reply"], ["backend", "Backends' answers"], ["commit", "Commits to disk"], ["sync", "fdatasync of the queue"], ["turn", "Turn of a core"]];
  $("latency").replaceChildren(...all.map(([key, name]) => {
    const h = now.latency[key];
    let counts = gained(h, looks.length > 1 ? before.latency[key] : null);
    const quiet = !counts || !counts.some((n) => n > 0);
    const figures = quiet ? "nothing in the last minute" : `half ≤ ${time(quantile(h.bounds, counts, 0.5))}, 99 % ≤ ${time(quantile(h.bounds, counts, 0.99))}`;
    const drawing = quiet ? [] : bars(h.bounds, counts, time);
    return el("div", { class: "histogram" }, el("div", { class: "name" }, name, el("small", {}, figures)), ...drawing);
  }));
}

function tops(now) {
  const rows = (list) => list.slice(0, 8).map((row) => el("tr", {}, el("th", { scope: "row", class: "mono" }, row.name), cell(short(row.count), "n")));
  fill($("top-clients"), rows(now.top.clients), "nobody");
  fill($("top-rules"), rows(now.top.rules), "none");
}

function backends(now) {
  const before = looks[0];
  const used = now.backends.filter((b) => b.up !== null || b.answers || b.failures);
  fill($("backends"), used.map((b) => {
    const same = (l) => l.backends.find((other) => other.pool === b.pool && other.backend === b.backend);
    const counts = gained(b.time, looks.length > 1 && same(before) ? same(before).time : null);
    const p99 = b.time && counts ? quantile(b.time.bounds, counts, 0.99) : NaN;
    const state = b.up === null ? cell("") : el("td", {}, el("span", { class: "word " + (b.up ? "up" : "down") }, b.up ? "up" : "set aside"));
    const name = (b.pool ? b.pool + " " : "") + b.backend;
    return el("tr", {}, el("th", { scope: "row" }, name), state, cell(short(rate((l) => (same(l) ? same(l).answers : 0))), "n"), cell(time(p99), "n"), cell(short(b.failures), "n"));
  }), "mail goes to no backend");
}

function queue(now) {
  const words = { "1m": "under 1 min", "10m": "under 10 min", "1h": "under 1 h", "6h": "under 6 h", "1d": "under 1 d", older: "older" };
  $("queue-ages").replaceChildren(...Object.entries(words).map(([key, name]) => el("span", {}, name + " ", el("b", {}, short(now.queue.ages[key] || 0)))));
  fill($("queue"), now.queue.destinations.map((d) =>
    el("tr", {}, el("th", { scope: "row" }, d.name), cell(short(d.messages), "n"), cell(span(d.oldest_s), "n"))), "the queue is empty");
}

function machine(now) {
  fill($("cores"), now.cores.map((core, i) => {
    const busy = rate((l) => (l.cores[i] ? l.cores[i].busy_s : 0));
    return el("tr", {}, el("th", { scope: "row" }, core.core), cell(Math.round(busy * 100) + " %", "n"), cell(short(core.connections), "n"));
  }));
  const memory = Object.entries(now.memory).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
  fill($("memory"), memory.map(([name, n]) => el("tr", {}, el("th", { scope: "row" }, name), cell(octets(n), "n"))));
}

function about(status) {
  const rows = [
    ["Version", status.version], ["Process", status.pid], ["Up", span(status.uptime_ms / 1000)], ["Driver", status.driver], ["Cores", status.cores],
    ["Policy", `${status.policy} (${status.policy_version.slice(0, 12)})`], ["Accepted", `${short(status.accepted)} messages`],
    ["Into mailboxes", `${short(status.delivered)} messages`], ["Listeners", status.listeners.join("  ")],
  ];
  $("status").replaceChildren(...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
}

// Recent refusals.
function fits(d, words) {
  const all = [d.session, d.client, d.listener, d.stage, d.verdict, d.rule, d.reason, d.reply, d.helo, d.user, d.sender, d.recipient].join("\n").toLowerCase();
  return words.every((w) => all.includes(w));
}

const words = () => $("search").value.toLowerCase().split(/\s+/).filter(Boolean);

function refused(decision) {
  refusals.unshift(decision);
  if (refusals.length > REFUSALS) refusals.length = REFUSALS;
  if (found && fits(decision, words())) found.unshift(decision);
}

function drawRefusals() {
  if (paused || $("page-live").hidden) return;
  const wanted = words();
  const rows = found || refusals;
  const newest = rows.length ? rows[0].number : 0;
  // A flood is seen without every row lighting up.
  const light = drawn >= 0 && rows.filter((d) => d.number > drawn).length < 8;
  fill($("refused"), rows.slice(0, SHOWN).map((d) => {
    const mail = d.stage === "connect" || d.stage === "helo" ? ["", ""] : [`<${d.sender}>`, d.recipient ? `<${d.recipient}>` : ""];
    return el("tr", { class: light && d.number > drawn ? "new" : null },
      el("td", { class: "when" }, clock(d.at_ms)), el("td", {}, word(d.verdict)),
      el("td", { class: "cut", title: d.reason || d.rule }, d.rule, d.reason ? el("span", { class: "quiet" }, " " + d.reason) : null),
      cell(d.client, "mono"), cell(mail[0], "cut"), cell(mail[1], "cut"), cell(d.reply, "cut"),
      el("td", {}, el("a", { href: "#sessions/" + d.session, class: "mono" }, d.session)));
  }), wanted.length ? "no refusal has all of this in it" : "nothing was refused since the server started");
  drawn = newest;
}

let announced = 0;
function announce() {
  const text = found ? `${found.length} refusal${found.length === 1 ? "" : "s"} found` : `${refusals.length} of the latest refusals`;
  if ($("refused-state").textContent !== text && Date.now() - announced > 3000) {
    $("refused-state").textContent = text;
    announced = Date.now();
  }
}

let searching = 0;
function search() {
  const mine = (searching += 1);
  const wanted = words();
  drawn = -1;
  announced = 0;
  if (!wanted.length) { found = null; drawRefusals(); announce(); return; }
  found = refusals.filter((d) => fits(d, wanted));
  drawRefusals();
  setTimeout(async () => {
    if (mine !== searching) return;
    try {
      const more = await ask(`/api/v1/decisions?verdict=refused&limit=200&q=${encodeURIComponent(wanted.join(" "))}`);
      if (mine !== searching) return;
      found = more.entries;
    } catch (error) { $("refused-state").textContent = String(error.message); }
    drawRefusals();
    announce();
  }, 200);
}

function state(text, kind) {
  const place = $("state");
  if (place.textContent !== text) place.textContent = text;
  place.className = "state " + kind;
}

function follow() {
  const source = new EventSource("/api/v1/live?overview=1&verdict=refused&history=200");
  source.addEventListener("open", () => { refusals = []; });
  source.addEventListener("overview", (event) => look(JSON.parse(event.data)));
  source.addEventListener("decision", (event) => refused(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    state("not connected; trying again", "bad");
    // A refusal by the server ends the stream for good; the page goes on trying.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  });
}

$("search").addEventListener("input", search);
$("search-form").addEventListener("submit", (event) => event.preventDefault());
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
  draw();
  drawRefusals();
});
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
  if (event.key === "/" && !typing && !$("page-live").hidden) { event.preventDefault(); $("search").focus(); }
});
setInterval(() => { drawRefusals(); announce(); }, 500);
