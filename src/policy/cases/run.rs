//! A golden case played on the engine, and what came compared with what was expected.
//!
//! How it fails: it does not; what differs is a [`Miss`].

use super::{CASE_TIME, Case, CaseResult, Miss};
use crate::base::body::BodyShape;
use crate::base::time::Instant;
use crate::policy::decision::{Decision, Verdict};
use crate::policy::limits::Limits;
use crate::policy::rules::Policy;
use crate::policy::session::{Authentication, Session};
use crate::policy::stage::Stage;
use crate::policy::trace::Trace;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A decision in words, for comparison.
#[derive(Debug)]
struct Seen {
    stage: Stage,
    passes: bool,
    texts: Vec<(&'static str, String)>,
    tags: Vec<String>,
}

fn seen<G>(stage: Stage, d: &Decision<G>, session: &Session) -> Seen {
    let verdict = if d.quarantine.is_some() { "quarantine" } else { d.verdict.word() };
    let reply = d.verdict.reply().map(ToString::to_string).unwrap_or_default();
    let texts = vec![
        ("verdict", verdict.to_owned()),
        ("rule", session.rule_name(d.rule).to_owned()),
        ("reply", reply),
        ("reason", d.reason.to_string()),
        ("delay", crate::base::knob::show_duration(d.delay)),
        ("route", d.route.as_deref().unwrap_or_default().to_owned()),
        ("quarantine", d.quarantine.as_deref().unwrap_or_default().to_owned()),
    ];
    let tags = d.tags.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    Seen { stage, passes: matches!(d.verdict, Verdict::Accept(_) | Verdict::Discard(_)), texts, tags }
}

impl Case {
    pub(super) fn run(&self, policy: &Arc<Policy>, covered: &mut BTreeSet<String>) -> CaseResult {
        let limits = Limits::new(1024, 0);
        let mut kept = Vec::new();
        let mut decisions = Vec::new();
        let begun = Instant::from_nanos(1_000_000_000);
        let mut now = begun;
        let mut trace = Trace::default();
        for _ in 0..self.repeat {
            // The calendar goes on as well: what is remembered is remembered by it.
            let wall = CASE_TIME + now.since(begun);
            let mut session = Session::new(policy.clone(), limits.clone(), self.client.clone(), now, wall);
            session.explain();
            decisions = self.play(&mut session, now);
            trace = session.trace().cloned().unwrap_or_default();
            let rules = trace.stages.iter().flat_map(|s| &s.rules);
            covered.extend(rules.filter(|r| r.matched).map(|r| r.rule.clone()));
            now = now + self.every;
            if self.keep_open {
                kept.push(session);
            }
        }
        let found = self.found(&decisions);
        CaseResult {
            name: self.name.clone(),
            line: self.line,
            failures: self.compare(found, decisions.last()),
            decided: found.map(|seen| (seen.stage, seen.texts.clone())),
            tags: found.map(|seen| seen.tags.clone()).unwrap_or_default(),
            trace,
        }
    }

    /// Plays the session until it is refused or nothing is left; refused recipients do not stop it while others remain.
    fn play(&self, session: &mut Session, now: Instant) -> Vec<Seen> {
        let mut all: Vec<Seen> = Vec::new();
        let mut failures = Vec::new();
        for (name, given) in &self.facts {
            if let Err(e) = session.set_fact(name, given.clone()) {
                failures.push(format!("{name}: {e}"));
            }
        }
        debug_assert!(failures.is_empty(), "the reader checked the facts: {failures:?}");
        let mut go = |stage: Stage, d: &Decision, session: &Session| {
            all.push(seen(stage, d, session));
            d.verdict.passes()
        };
        // A flag among the facts stands for what the connection did.
        let early =
            self.early_talker || session.fact("early_talker", |v| v == crate::policy::Value::Flag(true)) == Some(true);
        let d = session.connect(now, early);
        let mut on = go(Stage::Connect, &d, session);
        if on {
            let d = session.helo(now, &self.helo, true);
            on = go(Stage::Helo, &d, session);
        }
        for _ in 0..self.auth_failures {
            if on {
                let d = session.auth(now, Authentication::Failed);
                on = go(Stage::Auth, &d, session);
            }
        }
        if let (true, Some(user)) = (on, &self.user) {
            let d = session.auth(now, Authentication::Succeeded(user));
            on = go(Stage::Auth, &d, session);
        }
        if let (true, Some(argument)) = (on, &self.vrfy) {
            let d = session.vrfy(now, argument);
            on = go(Stage::Vrfy, &d, session);
        }
        if let (true, Some(from)) = (on, &self.from) {
            let d = session.mail(now, from, &self.parameters);
            on = go(Stage::Mail, &d, session);
        }
        if !on || self.to.is_empty() {
            return all;
        }
        if self.recipients(session, now, &mut all) {
            self.body(session, now, &mut all);
        }
        all
    }

    fn recipients(&self, session: &mut Session, now: Instant, all: &mut Vec<Seen>) -> bool {
        let mut any = false;
        for recipient in &self.to {
            let d = session.rcpt(now, recipient, self.exists);
            any |= d.verdict.passes();
            all.push(seen(Stage::Rcpt, &d, session));
            if matches!(d.verdict, Verdict::Drop(_)) {
                return false;
            }
        }
        any
    }

    fn body(&self, session: &mut Session, now: Instant, all: &mut Vec<Seen>) {
        let headers = self.headers.clone().unwrap_or_else(|| "Subject: test\r\n\r\n".into());
        // A person writes line feeds, and does not write a hundred Received fields.
        let headers = "Received: hop\n".repeat(self.hops as usize) + &headers.replace("\r\n", "\n");
        let headers = headers.replace('\n', "\r\n");
        let d = session.data(now, headers.as_bytes());
        let passes = d.verdict.passes();
        all.push(seen(Stage::Data, &d, session));
        if passes {
            let octets = self.size.unwrap_or(headers.len() as u64);
            let shape = BodyShape { octets, header_octets: headers.len() as u64, ..BodyShape::default() };
            let d = session.message(now, &shape, headers.as_bytes());
            all.push(seen(Stage::Message, &d, session));
        }
    }

    /// The decision that `expect` is about.
    fn found<'s>(&self, decisions: &'s [Seen]) -> Option<&'s Seen> {
        match self.expect.stage {
            Some(stage) => decisions.iter().rfind(|d| d.stage == stage),
            None => decisions.iter().find(|d| !d.passes).or(decisions.last()),
        }
    }

    fn compare(&self, found: Option<&Seen>, last: Option<&Seen>) -> Vec<Miss> {
        let Some(found) = found else {
            let expected = self.expect.stage.map_or("a decision", Stage::word).to_owned();
            let stage = last.map_or("nothing", |d| d.stage.word());
            return vec![Miss { key: "stage", expected, came: stage.to_owned(), stage }];
        };
        let stage = found.stage.word();
        let mut failures = Vec::new();
        for (key, expected) in &self.expect.texts {
            let came = found.texts.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str());
            // Replies and reasons may be given by their beginning.
            let same =
                if matches!(*key, "reply" | "reason") { came.starts_with(expected.as_str()) } else { came == expected };
            if !same {
                failures.push(Miss { key, expected: expected.clone(), came: came.to_owned(), stage });
            }
        }
        if let Some(tags) = self.expect.tags.as_ref().filter(|t| **t != found.tags) {
            let (expected, came) = (tags.join("; "), found.tags.join("; "));
            failures.push(Miss { key: "tags", expected, came, stage });
        }
        failures
    }
}
