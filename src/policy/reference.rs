//! The reference of the policy language and its JSON Schema, made from the tables that the engine itself uses.
//!
//! How it fails: it does not. A test compares both with the published files.

use super::compile::{LIMIT_KEYS, LIST_KEYS, RULE_KEYS};
use super::dnsbl::{DNSBL_KEYS, Of};
use super::facts;
use super::functions::FUNCTIONS;
use super::greylist::GREYLIST_KEYS;
use super::limit::{Counts, KEY_FACTS};
use super::list::Kind;
use super::mode::GUARD_KEYS;
use super::outcome::WORDS;
use super::reputation::REPUTATION_KEYS;
use super::stage::{Span, Stage};
use super::threshold::{STAGES, THRESHOLD_KEYS};
use serde_json::{Value as Json, json};
use std::fmt::Write;

/// The reference in Markdown: stages, facts, functions, outcomes, limits.
pub fn reference() -> String {
    let mut out = String::from(
        "# Policy reference\n\nMade from the program's own tables by `gatepost policy reference`.\n\n## Facts\n\n\
         | fact | type | known at | meaning |\n| --- | --- | --- | --- |\n",
    );
    // Writing to a String cannot fail.
    for f in facts::all() {
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", f.name, f.kind.word(), show(f.known), f.doc);
    }
    out.push_str("\n## Functions\n\n| function | type | known at | meaning |\n| --- | --- | --- | --- |\n");
    for f in FUNCTIONS {
        let _ = writeln!(out, "| `{}('{}')` | {} | {} | {} |", f.name, f.argument, f.kind.word(), show(f.known), f.doc);
    }
    out.push_str("\n## Outcomes\n\n| outcome | ends the stage | stages | meaning |\n| --- | --- | --- | --- |\n");
    for w in WORDS {
        let stages = match w.stages.len() == Stage::COUNT {
            true => "all".to_owned(),
            false => w.stages.iter().map(|s| s.word()).collect::<Vec<_>>().join(", "),
        };
        let ends = if w.is_final { "yes" } else { "no" };
        let _ = writeln!(out, "| `{}` | {ends} | {stages} | {} |", format!("{} {}", w.word, w.syntax).trim(), w.doc);
    }
    out.push_str(
        "\n## Lists in the DNS\n\n`[dnsbl.NAME]` declares a list (RFC 5782) for `dnsbl('NAME')`:\n\n\
         | key | meaning |\n| --- | --- |\n",
    );
    for key in DNSBL_KEYS {
        let _ = writeln!(out, "| `{key}` | {} |", dnsbl_key(key));
    }
    out.push_str("\n## Limits\n\n| counts | at stages |\n| --- | --- |\n");
    for word in Counts::WORDS {
        let stages = word.parse::<Counts>().map(Counts::stages).unwrap_or_default();
        let _ = writeln!(out, "| `{word}` | {} |", stages.iter().map(|s| s.word()).collect::<Vec<_>>().join(", "));
    }
    let keys = KEY_FACTS.map(|k| format!("`{k}`")).join(", ");
    let _ = writeln!(
        out,
        "\nKeys (`per`): `client`, `client/24,64` (IPv4 and IPv6 prefix length), {keys}, or an array of them."
    );
    out
}

fn show(known: Span) -> String {
    match (known.first, known.last) {
        (first, last) if first == last => format!("{} only", first.word()),
        (first, _) => format!("{} on", first.word()),
    }
}

/// The JSON Schema of a policy file, for editors.
pub fn schema() -> String {
    let document = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Gatepost policy",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "settings": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "description": text("For people."),
                    "default": {
                        "description": "What happens at a stage when no rule ends it: accept, reject, defer or drop.",
                        "type": "object",
                        "additionalProperties": false,
                        "properties": Stage::WORDS.iter().map(|s| ((*s).to_owned(), outcome())).collect::<serde_json::Map<_, _>>(),
                    },
                },
            },
            "list": named(list()),
            "dnsbl": named(dnsbl()),
            "limit": named(limit()),
            "greylist": named(greylist()),
            "reputation": reputation(),
            "threshold": thresholds(),
            "rule": { "type": "array", "items": rule() },
        },
    });
    let mut out = serde_json::to_string_pretty(&document).unwrap_or_default();
    out.push('\n');
    out
}

fn text(description: &str) -> Json {
    json!({ "type": "string", "description": description })
}

fn texts(description: &str) -> Json {
    json!({
        "description": description,
        "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    })
}

fn named(item: Json) -> Json {
    json!({ "type": "object", "additionalProperties": false, "patternProperties": { "^[A-Za-z0-9_-]+$": item } })
}

/// An object with exactly these keys; the reader of policies has the same list.
fn object(keys: &[&str], required: &[&str], describe: impl Fn(&str) -> Json) -> Json {
    let properties: serde_json::Map<_, _> = keys.iter().map(|k| ((*k).to_owned(), describe(k))).collect();
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

fn list() -> Json {
    object(&LIST_KEYS, &[], |key| match key {
        "networks" => texts("IP networks or addresses: 192.0.2.0/24, 2001:db8::/32."),
        "domains" => texts("example.org is that name, .example.org it and all below, *.example.org only those below."),
        "addresses" => texts("Mail addresses."),
        "words" => texts("User names, local parts, listener names."),
        "file" => texts("Files with one entry per line; # begins a comment. Read again when they change."),
        "kind" => {
            json!({ "enum": Kind::WORDS, "description": "What the lines of the files are; guessed when absent." })
        }
        _ => text("For people."),
    })
}

fn dnsbl_key(key: &str) -> &'static str {
    match key {
        "zone" => "The zone that is asked, such as zen.example.org.",
        "of" => "Who is looked for: client (its address), helo (its name) or sender (its domain); client when absent.",
        "codes" => {
            "What codes weigh: \"127.0.0.2\" = 4, \"127.0.0.10-127.0.0.11\" = 1.5; negative for lists of the good."
        }
        "weight" => "What codes not named weigh; 1 when absent.",
        _ => "For people.",
    }
}

fn dnsbl() -> Json {
    object(&DNSBL_KEYS, &["zone"], |key| match key {
        "of" => json!({ "enum": Of::WORDS, "description": dnsbl_key(key) }),
        "codes" => json!({
            "type": "object",
            "description": dnsbl_key(key),
            "additionalProperties": false,
            "patternProperties": { "^127(\\.[0-9]+){3}( *- *127(\\.[0-9]+){3})?$": { "type": "number" } },
        }),
        "weight" => json!({ "type": "number", "description": dnsbl_key(key) }),
        _ => text(dnsbl_key(key)),
    })
}

fn limit() -> Json {
    object(&LIMIT_KEYS, &["per", "counts"], |key| match key {
        "per" => {
            let facts = KEY_FACTS.map(|f| f.replace('.', "\\.")).join("|");
            let part = json!({ "type": "string", "pattern": format!("^(client(/[0-9]+(, *[0-9]+)?)?|{facts})$") });
            json!({
                "description": "Of what each has its own count; parts of an array are combined.",
                "oneOf": [part, { "type": "array", "items": part, "minItems": 1 }],
            })
        }
        "rate" => json!({ "type": "string", "description": "Units per period: 60/minute, 10/30s, 500MiB/hour.",
            "pattern": "^[0-9]+ *([KMGT]iB|[kKMG]B|B)? */ *(second|minute|hour|day|([0-9]+(ms|s|m|h|d))+)$" }),
        "burst" => json!({ "type": ["integer", "string"], "minimum": 1,
            "description": "Units that may come at once after a rest; by default those of one period." }),
        "most" => json!({ "type": "integer", "minimum": 1, "maximum": 1_000_000,
            "description": "For concurrency: how many at the same time." }),
        "counts" => json!({ "enum": Counts::WORDS }),
        "exempt" => text("To whom it does not apply: a condition, or @list for clients in that list."),
        _ => text("For people."),
    })
}

fn duration(description: &str) -> Json {
    json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$", "description": description })
}

fn greylist() -> Json {
    object(&GREYLIST_KEYS, &[], |key| match key {
        "per" => texts("What makes somebody known; by default client/24,64, sender and rcpt."),
        "delay" => duration("How long who is new has to wait; by default 5m."),
        "retry-window" => duration("How long after the first try another one counts as coming back; by default 2d."),
        "remember" => duration("How long who came back is known, from the last time on; by default 35d."),
        "auto-allow" => json!({ "type": "integer", "minimum": 0,
            "description": "So many senders that came back, at least the delay apart, make a network known; by default 5, 0 = never." }),
        "spf" => json!({ "type": "boolean",
            "description": "Whether a domain that SPF confirms stands for the client's network; by default true." }),
        "exempt" => text("Who never waits: a condition, or @list for clients in that list."),
        _ => text("For people."),
    })
}

fn reputation() -> Json {
    object(&REPUTATION_KEYS, &[], |key| match key {
        "half-life" => duration("Time after which an event counts half; by default 7d."),
        "at-least" => json!({ "type": "integer", "minimum": 1,
            "description": "Events, by their weight, before there is a reputation; by default 3." }),
        "network" => json!({ "type": "string", "pattern": "^[0-9]+(, *[0-9]+)?$",
            "description": "Prefix lengths of a client's network, IPv4 and IPv6; by default 24,64." }),
        _ => text("For people."),
    })
}

fn thresholds() -> Json {
    let stages = STAGES.map(|stage| stage.word());
    object(&stages, &[], |_| {
        object(&THRESHOLD_KEYS, &[], |key| match key {
            "observe" => score("From this score on it is written down."),
            "tag" => score("From this score on the message says it, in a header field."),
            "greylist" => score("From this score on who is not known comes back later."),
            "defer" => score("From this score on it is refused for now."),
            "reject" => score("From this score on it is refused for good."),
            "mode" => mode(),
            "guard" => guard(),
            "header" => text("Name of the header field; by default X-Gatepost-Score."),
            "explain" => {
                json!({ "type": "boolean", "description": "Whether replies say which rules added; by default true." })
            }
            "greylist-with" => text("Name of the [greylist.NAME] to use."),
            "defer-with" => text("Reply of a deferral: [code [x.y.z]] [text]."),
            "reject-with" => text("Reply of a refusal: [code [x.y.z]] [text]."),
            _ => text("For people."),
        })
    })
}

fn score(description: &str) -> Json {
    json!({ "type": "number", "description": description })
}

fn mode() -> Json {
    json!({ "type": "string", "pattern": "^ *(enforce|observe|[0-9]+([.][0-9]+)? *%) *$",
        "description": "enforce: it acts. observe: what it would do is written down and counted, and rules go on. 25 %: it acts on \
        that share of client networks, always the same ones, and observes the others." })
}

fn guard() -> Json {
    object(&GUARD_KEYS, &["most", "of"], |key| match key {
        "most" => text("The share of that traffic that may be refused: 2 %."),
        "of" => text("Which traffic must pass: a condition, such as `authenticated or client in @partners`."),
        "over" => duration("In what time; by default 1h."),
        "at-least" => json!({ "type": "integer", "minimum": 1,
            "description": "So much of that traffic must have been seen before the guard says anything; by default 50." }),
        _ => duration("After what time the rule acts again; by default that of `over`. A reload ends it at once."),
    })
}

fn rule() -> Json {
    let facts = facts::all().iter().map(|f| f.name).collect::<Vec<_>>().join(", ");
    object(&RULE_KEYS, &["name", "stage", "then"], |key| match key {
        "name" => text("Stands in logs and traces; each rule has its own."),
        "mode" => mode(),
        "guard" => guard(),
        "stage" => json!({ "enum": Stage::WORDS }),
        "when" => text(&format!("A condition; without it the rule always applies. Facts: {facts}.")),
        "then" => json!({
            "description": "What happens: one outcome, or several of which the last may be final.",
            "oneOf": [outcome(), { "type": "array", "items": outcome(), "minItems": 1 }],
        }),
        _ => text("For people."),
    })
}

fn outcome() -> Json {
    let words = WORDS.iter().map(|w| w.word).collect::<Vec<_>>().join("|");
    let help =
        WORDS.iter().map(|w| format!("{} {}", w.word, w.syntax).trim().to_owned()).collect::<Vec<_>>().join("; ");
    json!({ "type": "string", "pattern": format!("^ *({words})( |$)"), "description": help })
}
