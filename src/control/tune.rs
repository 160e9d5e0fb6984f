//! `gatepost policy tune`: limits proposed from recorded traffic, and what they would have done.
//!
//! Three passes over the journal: what every key of every limit wanted; the policy as it is; the policy with the proposed
//! values. How it fails: as `replay`; the file is written only with `--write`, whole and in one step.

mod scores;

use crate::control::cli::{Failure, ServeArgs, print};
use crate::control::journal::SourceArgs;
use crate::control::policy::{read, replace, told};
use crate::control::replay::{compile, play};
use crate::control::table::{table, visible};
use crate::gateway::policy_file;
use crate::policy::Policy;
use crate::policy::replay::{Change, Replay, Seen, Visitor};
use crate::policy::tune::{Basis, Ledger, Proposal, Spread, propose, write};
use clap::Args;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Fewer good keys than this say little about the next ones.
const KEYS_FEW: usize = 100;
/// Clients that are told apart when they are counted.
const CLIENTS_MAX: usize = 1 << 20;

/// What to tune, on what.
#[derive(Debug, Args)]
pub struct TuneArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Policy file [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Local domain; may be repeated [default: those of the configuration]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// Only this limit; may be repeated
    #[arg(long, value_name = "NAME")]
    limit: Vec<String>,
    /// Share of good keys that no limit may touch
    #[arg(long, value_name = "SHARE", default_value = "0.999")]
    quantile: f64,
    /// What good keys get beyond their peak
    #[arg(long, value_name = "FACTOR", default_value = "2")]
    headroom: f64,
    /// Tune scores instead: a file that says which messages were spam, as `gatepost mailbox labels` writes it
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The threshold that scores are tuned for, such as message.reject [default: the strongest there is, message first]
    #[arg(long, value_name = "STAGE.KEY", requires = "labels")]
    threshold: Option<String>,
    /// Share of ham that may reach the threshold
    #[arg(long, value_name = "SHARE", default_value = "0.001")]
    false_positives: f64,
    /// How many spams passed are as bad as one ham refused [default: 100]
    #[arg(long, value_name = "N", requires = "labels")]
    ham_weight: Option<f64>,
    /// Also write the trade-off of scores as a page for a browser
    #[arg(long, value_name = "FILE", requires = "labels")]
    html: Option<PathBuf>,
    /// Put the values into the policy file, which keeps its comments and its layout
    #[arg(long)]
    write: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What one limit did in a replay.
#[derive(Clone, Debug, Default)]
struct Effect {
    refusals: u64,
    clients: HashSet<std::net::IpAddr>,
    /// Refusals where the recording passed: with the policy that recorded, none.
    passed_then: u64,
}

/// Counts what limits refuse.
#[derive(Default)]
struct Effects {
    limits: BTreeMap<String, Effect>,
    delivered_stopped: u64,
}

impl Visitor for Effects {
    fn decision(&mut self, seen: &Seen<'_>) {
        let Some(new) = seen.new.filter(|new| !new.passes()) else { return };
        let Some(name) = new.reason.strip_prefix("limit ").and_then(|r| r.split_once(": more than ")) else { return };
        let effect = self.limits.entry(name.0.to_owned()).or_default();
        effect.refusals += 1;
        effect.passed_then += u64::from(seen.change() == Change::Tightened);
        if effect.clients.len() < CLIENTS_MAX {
            effect.clients.insert(seen.client);
        }
    }
    fn settled(&mut self, seen: &Seen<'_>, how: &str) {
        self.delivered_stopped += u64::from(seen.new.is_none() && matches!(how, "delivered" | "queued"));
    }
}

/// Runs the command.
pub fn run(args: &TuneArgs) -> Result<(), Failure> {
    if !(0.5..=1.0).contains(&args.quantile) || !(1.0..=1000.0).contains(&args.headroom) {
        return Err(Failure::usage("--quantile takes 0.5 to 1, --headroom 1 to 1000"));
    }
    let journals = args.source.open()?;
    let serve = ServeArgs::for_policy(args.source.config.clone(), args.policy.clone(), args.domain.clone());
    let config = serve.load()?.config;
    let file = config.settings.server.policy.clone();
    if args.write && file.is_none() {
        return Err(Failure::usage("--write needs a policy file: name it with --policy or in the configuration"));
    }
    let policy = Arc::new(policy_file::load(&config).map_err(|e| told(&e, "the policy has errors"))?);
    if let Some(labels) = &args.labels {
        if !(0.0..=1.0).contains(&args.false_positives) || args.ham_weight.is_some_and(|w| !(1.0..=1e6).contains(&w)) {
            return Err(Failure::usage("--false-positives takes 0 to 1, --ham-weight 1 to 1000000"));
        }
        let keys_max = config.settings.limits.keys_max;
        return scores::run(args, labels, &journals, &policy, keys_max, file.as_deref());
    }
    let source = match &file {
        Some(path) => read(path)?,
        None => Policy::DEFAULT.to_owned(),
    };
    let keys_max = config.settings.limits.keys_max;
    let ledger = Ledger::shared();
    let demand = Replay::new(policy.clone(), keys_max).with_demand(ledger.clone());
    let counts = play(&journals, demand, &mut (), "gathering demand")?;
    let basis = Basis { quantile: args.quantile, headroom: args.headroom };
    let mut proposals = propose(&policy, &ledger.lock(), &basis);
    if let Some(unknown) = args.limit.iter().find(|name| !proposals.iter().any(|p| p.limit == **name)) {
        let known: Vec<&str> = proposals.iter().map(|p| p.limit.as_str()).collect();
        return Err(Failure::usage(format!("there is no limit {unknown}; expected one of {}", known.join(", "))));
    }
    proposals.retain(|p| args.limit.is_empty() || args.limit.contains(&p.limit));
    let proposed = write(&source, &proposals).map_err(|e| Failure::new(e.to_string()))?;
    let mut effects = [Effects::default(), Effects::default()];
    let after = compile(&config, &proposed)?;
    for (policy, effects) in [policy, after].into_iter().zip(&mut effects) {
        play(&journals, Replay::new(policy, keys_max), effects, "trying")?;
    }
    match args.json {
        true => print(&format!("{}\n", json(&proposals, &effects)))?,
        false => print(&text(counts.sessions, &proposals, &effects))?,
    }
    match (&file, args.write) {
        (Some(path), true) => {
            replace(path, &proposed)?;
            eprintln!("gatepost: {} is changed; a running server reads it within seconds", path.display());
            Ok(())
        }
        _ => Ok(()),
    }
}

fn text(sessions: u64, proposals: &[Proposal], effects: &[Effects; 2]) -> String {
    let value = |v: Option<u64>| v.map_or_else(|| "no data".to_owned(), |v| v.to_string());
    let both = |name: &str, of: fn(&Effect) -> u64| {
        let [then, now] = effects.each_ref().map(|e| e.limits.get(name).map_or(0, of));
        format!("{then} → {now}")
    };
    let rows: Vec<Vec<String>> = proposals
        .iter()
        .map(|p| {
            let Spread { p50, p99, p999, max, .. } = if p.good.keys > 0 { p.good } else { p.all };
            vec![
                p.limit.clone(),
                p.shown.clone(),
                value(p.proposed),
                format!("{}/{}", p.good.keys, p.all.keys),
                format!("{p50} {p99} {p999} {max}"),
                both(&p.limit, |e| e.refusals),
                both(&p.limit, |e| e.clients.len() as u64),
                both(&p.limit, |e| e.passed_then),
            ]
        })
        .collect();
    let head =
        ["LIMIT", "NOW", "PROPOSED", "GOOD/KEYS", "PEAK p50 p99 p99.9 max", "REFUSALS", "CLIENTS", "PASSED THEN"];
    let mut out = format!("{sessions} sessions\n{}", table(&head, &rows));
    // Writing to a string cannot fail.
    let [then, now] = effects.each_ref().map(|e| e.delivered_stopped);
    let _ = writeln!(
        out,
        "\nmessages that were delivered then and are stopped: {then} with the limits as they are, {now} as proposed"
    );
    for p in proposals {
        if p.proposed.is_some() && p.good.keys < KEYS_FEW {
            let _ = writeln!(out, "{}: only {} good keys; take the proposal as a hint", p.limit, p.good.keys);
        }
        for (words, peak, good) in p.greediest.iter().take(3) {
            let good = if *good { "mail was taken" } else { "no mail was taken" };
            let _ = writeln!(out, "  {}: {} wanted {peak}, {good}", p.limit, visible(words));
        }
    }
    out
}

fn json(proposals: &[Proposal], effects: &[Effects; 2]) -> serde_json::Value {
    let spread =
        |s: &Spread| serde_json::json!({ "keys": s.keys, "p50": s.p50, "p99": s.p99, "p999": s.p999, "max": s.max });
    let limits = proposals.iter().map(|p| {
        let effect = |e: &Effects| {
            let found = e.limits.get(&p.limit).cloned().unwrap_or_default();
            serde_json::json!({ "refusals": found.refusals, "clients": found.clients.len(), "passed_then": found.passed_then })
        };
        let greediest = p.greediest.iter().map(|(w, n, g)| serde_json::json!({ "key": w, "peak": n, "good": g }));
        serde_json::json!({
            "limit": p.limit, "shown": p.shown, "now": p.now, "proposed": p.proposed, "burst": p.burst,
            "all": spread(&p.all), "good": spread(&p.good), "touched": [p.touched.0, p.touched.1],
            "good_touched": [p.good_touched.0, p.good_touched.1],
            "effect_now": effect(&effects[0]), "effect_proposed": effect(&effects[1]),
            "greediest": greediest.collect::<Vec<_>>(),
        })
    });
    serde_json::json!({
        "limits": limits.collect::<Vec<_>>(),
        "delivered_stopped": [effects[0].delivered_stopped, effects[1].delivered_stopped],
    })
}
