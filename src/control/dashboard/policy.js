// The policy: rules with their hits, the source, and what it would say to somebody; and the pages' addresses.
async function policy() {
  try {
    const p = await ask("/api/v1/policy");
    $("policy-name").textContent = `${p.name}, version ${p.version.slice(0, 12)}; hits since the server started`;
    const hits = (map) => Object.entries(map).map(([name, n]) => `${short(n)} ${name}`).join(", ");
    const rows = p.rules.map((rule) => el("tr", {}, cell(rule.stage), el("th", { scope: "row" }, rule.name, rule.description ? el("div", { class: "quiet small" }, rule.description) : null),
      el("td", {}, el("code", {}, rule.when || "always")), el("td", {}, rule.then.map((then) => el("div", {}, el("code", {}, then)))),
      el("td", { class: "n", title: hits(rule.hits) }, short(total(rule.hits)))));
    for (const [what, n] of Object.entries(p.defaults)) {
      rows.push(el("tr", { class: "quiet" }, cell(what.split(" ")[0]), el("th", { scope: "row" }, "default"), cell("no rule has decided"), cell(what.split(" ")[1]), cell(short(n), "n")));
    }
    fill($("rules"), rows, "the policy has no rules");
    fill($("limits"), p.limits.map((l) => el("tr", {}, el("th", { scope: "row" }, l.name), cell(l.bound), cell(short(l.hits), "n"))), "none");
    fill($("lists"), p.lists.map((l) => el("tr", {}, el("th", { scope: "row" }, "@" + l.name), cell(l.from_file ? "a file" : "the policy or the server"), cell(short(l.entries), "n"))), "none");
    $("source").textContent = p.source;
  } catch (error) { $("policy-name").textContent = String(error.message); }
}

function facts(text) {
  const all = {};
  for (const line of text.split("\n").map((l) => l.trim()).filter(Boolean)) {
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`"${line}": expected NAME = VALUE`);
    const value = line.slice(at + 1).trim();
    all[line.slice(0, at).trim()] = /^-?\d+$/.test(value) ? Number(value) : value === "true" ? true : value === "false" ? false : value.replace(/^["']|["']$/g, "");
  }
  return all;
}

async function explain(event) {
  event.preventDefault();
  const form = $("explain").elements;
  const given = (name) => form[name].value.trim() || undefined;
  try {
    const to = form.to.value.split(/\s+/).filter(Boolean);
    const about = { client: given("client"), listener: given("listener"), helo: given("helo"), user: given("user"), tls: form.tls.checked, to,
      from: to.length || form.from.value.trim() ? form.from.value.trim() : undefined, headers: form.headers.value || undefined,
      size: given("size") ? Number(given("size")) : undefined, facts: facts(form.facts.value) };
    const told = await ask("/api/v1/policy/explain", about);
    $("explain-state").replaceChildren("It would say: ", el("b", {}, told.verdict));
    $("explained").replaceChildren(...told.trace.stages.map((stage, i, all) => el("section", {}, el("h3", {}, `${stage.stage}: ${stage.verdict} by ${stage.decided_by}`),
      tracing(stage, i === all.length - 1))));
  } catch (error) {
    $("explain-state").textContent = String(error.message);
    $("explained").replaceChildren();
  }
}

// A page is what stands behind # in the address.
function turn() {
  const [name, id] = location.hash.slice(1).split("/");
  const page = ["live", "sessions", "policy", "about"].includes(name) ? name : "live";
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== "page-" + page;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = { live: "Live", sessions: "Sessions", policy: "Policy", about: "Server" }[page] + " · Gatepost";
  if (page === "sessions") { $("story").hidden = true; sessions(); if (id) story(decodeURIComponent(id)); }
  if (page === "policy") policy();
  draw();
  drawRefusals();
}

$("explain").addEventListener("submit", explain);
window.addEventListener("hashchange", turn);
turn();
follow();
