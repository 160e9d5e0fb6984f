// Sessions: the list, and one session's whole story.
async function sessions() {
  try {
    const { entries } = await ask("/api/v1/sessions?limit=200");
    fill($("sessions"), entries.map((s) =>
      el("tr", {}, el("td", {}, el("a", { href: "#sessions/" + s.id, class: "mono" }, s.id)), el("td", { class: "when" }, clock(s.at_ms)),
        cell(time(s.lasted_ms / 1000), "n"), cell(s.client, "mono"), cell(s.helo, "cut"), cell(s.listener), cell(short(s.messages), "n"), cell(short(s.refusals), "n"))),
      "no session has ended that is kept");
  } catch (error) { $("session-state").textContent = String(error.message); }
}

async function story(id) {
  $("session-id").value = id;
  $("session-state").textContent = "looking";
  try {
    const told = await ask(`/api/v1/sessions/${encodeURIComponent(id)}?trace=true`);
    $("session-state").textContent = "";
    tell(told);
  } catch (error) {
    $("story").hidden = true;
    $("session-state").textContent = String(error.message);
  }
}

function tell(told) {
  const states = { open: "goes on", ended: "has ended", partial: "is not kept whole" };
  const facts = [["Client", `${told.client}${told.port ? " port " + told.port : ""}`], ["Listener", told.listener], ["Began", new Date(told.at_ms).toLocaleString()],
    ["TLS", told.tls], ["Policy", told.policy.slice(0, 12)]].filter(([, value]) => value);
  const title = el("h2", { tabindex: "-1" }, "Session ", el("span", { class: "mono" }, told.id), ` ${states[told.state] || ""}`);
  $("story").replaceChildren(title,
    el("dl", { class: "pairs" }, facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    el("ol", {}, told.events.map(happened)), told.note ? el("p", { class: "quiet small" }, told.note) : null);
  $("story").hidden = false;
  title.focus();
}

function happened(event) {
  const said = event.verdict
    ? el("p", { class: "said" }, word(event.verdict), " by ", el("b", {}, event.rule), event.reason ? `, ${event.reason}` : "",
      event.delay_ms ? `, after ${time(event.delay_ms / 1000)}` : "", event.reply ? el("code", {}, " " + event.reply) : null)
    : null;
  return el("li", {}, el("span", { class: "when" }, (event.after_ms / 1000).toFixed(3) + " s"), el("p", {}, event.text), said,
    event.more.map((text) => el("p", { class: "quiet small" }, text)), event.trace.map((stage) => tracing(stage)));
}

function tracing(stage, open) {
  const tried = stage.rules.length;
  const summary = tried ? `${tried} rule${tried === 1 ? "" : "s"} tried` : "no rule was tried";
  const rows = stage.rules.map((rule) => el("tr", { class: rule.matched ? "hit" : null },
    el("th", { scope: "row" }, rule.rule), el("td", {}, rule.matched ? "held" : "did not hold"),
    el("td", { class: "rule-parts" }, rule.parts.map((part) => el("div", {}, el("code", {}, part.text), ` is ${part.answer}; the value was `, el("code", {}, part.value))),
      rule.effects.map((effect) => el("div", {}, "⇒ " + effect)))));
  const table = el("table", {}, el("caption", { class: "sr" }, "Rules that were tried"),
    el("thead", {}, el("tr", {}, ["Rule", "Condition", "Why"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows));
  return el("details", { class: "trace", open: open || false }, el("summary", {}, summary), tried ? table : null);
}

$("session-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = $("session-id").value.trim().toUpperCase();
  if (id) location.hash = "#sessions/" + id;
});
