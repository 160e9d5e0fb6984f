//! Whether strangers can relay, found out by asking: sessions of strangers with the address forms by which relays are
//! abused are judged by the engine, and so is the mail that every server must take.
//!
//! How it fails: it does not. A form that the grammar refuses never reaches the policy and cannot relay.

use super::RuleText;
use crate::base::address::ReversePath;
use crate::base::envelope::{MailParameters, Recipient};
use crate::base::time::{Instant, WallTime};
use crate::policy::diagnostic::Diagnostic;
use crate::policy::facts::{self, Source};
use crate::policy::limits::Limits;
use crate::policy::rules::Policy;
use crate::policy::session::Session;
use crate::policy::source::Reader;
use crate::policy::stage::Stage;
use crate::policy::state::ClientFacts;
use crate::policy::value::{Given, Type};
use crate::wire::address::parse_mailbox;
use std::net::IpAddr;
use std::sync::Arc;

/// Networks for documentation (RFC 5737, RFC 3849) and for benchmarks (RFC 2544): hosts that are nobody's friends. One may
/// stand in a list as an example; a relay is open when two of them can use it.
const STRANGERS: [&str; 5] = ["203.0.113.77", "198.51.100.77", "198.18.77.7", "2001:db8:7777::7", "192.0.2.77"];
const FOREIGN: &str = "elsewhere.example";

/// What was tried.
#[derive(Clone, Copy)]
struct Probe<'a> {
    listener: &'static str,
    from: &'a str,
    to: &'a str,
    exists: Option<bool>,
    /// Whether what can be looked up speaks for the stranger.
    friendly: bool,
}

/// Tries what strangers try.
pub fn check(reader: &mut Reader<'_>, policy: &Arc<Policy>, rules: &[RuleText], here: &str) {
    if parse_mailbox(&format!("postmaster@{here}")).is_err() {
        return;
    }
    let own = format!("boss@{here}");
    let senders = ["", "spammer@elsewhere.example", own.as_str()];
    let direct = [
        format!("victim@{FOREIGN}"),
        "victim@[192.0.2.200]".to_owned(),
        "victim@[IPv6:2001:db8::200]".to_owned(),
        format!("victim@sub.{here}.{FOREIGN}"),
    ];
    let routed = [
        format!("victim%{FOREIGN}@{here}"),
        format!("\"victim@{FOREIGN}\"@{here}"),
        format!("{FOREIGN}!victim@{here}"),
        // Both refused by the grammar unless it is loosened: then they must not pass either.
        format!("victim@{FOREIGN}@{here}"),
        format!("@{here}:victim@{FOREIGN}"),
    ];
    let open = tried(policy, &direct, &senders);
    if let Some((probe, rule)) = open {
        let message = format!(
            "an open relay: a stranger on `{}` may send from <{}> to <{}>, by `{rule}`",
            probe.listener, probe.from, probe.to
        );
        let help = "within hours of going live it would be abused and listed; accept foreign recipients only for \
                    `authenticated` clients or a list of your own hosts";
        report(reader, rules, &rule, message, "open-relay", help);
        return;
    }
    if let Some((probe, rule)) = tried(policy, &routed, &senders) {
        let message = format!(
            "<{}> passes from a stranger, by `{rule}`: a mail server behind may send it on to {FOREIGN}",
            probe.to
        );
        let help = "refuse local parts with `%`, `!` or `@` from strangers: when = \"(rcpt.local contains '%' or rcpt.local \
                    contains '!' or rcpt.local contains '@') and not authenticated\"";
        report(reader, rules, &rule, message, "relay-by-local-part", help);
    }
    must_pass(reader, policy, rules, here);
}

/// A server that takes mail from strangers takes it for the postmaster too, and from the null sender.
fn must_pass(reader: &mut Reader<'_>, policy: &Arc<Policy>, rules: &[RuleText], here: &str) {
    let (user, postmaster) = (format!("user@{here}"), format!("postmaster@{here}"));
    let stranger = STRANGERS.iter().filter_map(|s| s.parse().ok());
    for client in stranger {
        let plain =
            Probe { listener: "mx", from: "ann@elsewhere.example", to: &user, exists: Some(true), friendly: true };
        if asked(policy, client, plain).is_err() {
            continue;
        }
        if let Err(rule) = asked(policy, client, Probe { to: &postmaster, ..plain }) {
            let message = format!("mail to <{postmaster}> is refused, by `{rule}`");
            let help = "every domain takes mail for its postmaster (RFC 5321 section 4.5.1)";
            report(reader, rules, &rule, message, "postmaster-refused", help);
        }
        if let Err(rule) = asked(policy, client, Probe { from: "", ..plain }) {
            let message = format!("a notification (null sender) to <{user}> is refused, by `{rule}`");
            let help = "bounces and receipts have the null sender; who refuses them never hears what failed (RFC 5321 \
                        section 4.5.5)";
            report(reader, rules, &rule, message, "null-sender-refused", help);
        }
        return;
    }
}

fn report(reader: &mut Reader<'_>, rules: &[RuleText], rule: &str, message: String, code: &'static str, help: &str) {
    let place = rules.iter().find(|r| r.name.text == rule);
    // What passes by default passes because no rule at rcpt said no.
    let place = place.or_else(|| rules.iter().find(|r| r.stage == Stage::Rcpt));
    let finding: Diagnostic = reader.at(place.map_or(0..0, |r| r.name.span.clone()), message);
    reader.report(finding.warning().code(code).help(help));
}

/// The first probe by which two strangers get through, and the rule that lets them.
fn tried<'a>(policy: &Arc<Policy>, forms: &'a [String], senders: &[&'a str]) -> Option<(Probe<'a>, String)> {
    for to in forms {
        for from in senders.iter().copied() {
            for (listener, exists, friendly) in
                [("mx", None, false), ("mx", Some(true), true), ("submission", Some(true), true)]
            {
                let probe = Probe { listener, from, to, exists, friendly };
                let clients = STRANGERS.iter().filter_map(|s| s.parse().ok());
                let mut passed = clients.filter_map(|client| asked(policy, client, probe).ok());
                if let (Some(rule), Some(_)) = (passed.next(), passed.next()) {
                    return Some((probe, rule));
                }
            }
        }
    }
    None
}

/// Whether the recipient passes: the rule that lets it, or the one that refuses.
fn asked(policy: &Arc<Policy>, client: IpAddr, probe: Probe<'_>) -> Result<String, String> {
    let grammar = || "the grammar".to_owned();
    let sender = match probe.from {
        "" => ReversePath::Null,
        from => ReversePath::Mailbox(parse_mailbox(from).map_err(|_| grammar())?),
    };
    let recipient = Recipient::plain(parse_mailbox(probe.to).map_err(|_| grammar())?);
    let now = Instant::from_nanos(1_000_000_000);
    let facts = ClientFacts { client: (client, 40_000).into(), listener: probe.listener.into(), tls: None };
    let mut session = Session::new(policy.clone(), Limits::new(1024, 0), facts, now, WallTime::default());
    if probe.friendly {
        befriend(&mut session);
    }
    let name = |session: &Session, rule, passes: bool| match passes {
        true => Ok(session.rule_name(rule).to_owned()),
        false => Err(session.rule_name(rule).to_owned()),
    };
    let d = session.connect(now, false);
    name(&session, d.rule, d.verdict.passes())?;
    let d = session.helo(now, "mail.elsewhere.example", true);
    name(&session, d.rule, d.verdict.passes())?;
    let d = session.mail(now, &sender, &MailParameters::default());
    name(&session, d.rule, d.verdict.passes())?;
    let d = session.rcpt(now, &recipient, probe.exists);
    name(&session, d.rule, d.verdict.passes())
}

/// Everything that is looked up is at its best: nobody may relay because a domain publishes SPF.
fn befriend(session: &mut Session) {
    for fact in facts::all().iter().filter(|f| matches!(f.source, Source::Looked)) {
        let given = match fact.kind {
            Type::Flag => Given::Flag(true),
            Type::Domain => Given::Text("mail.elsewhere.example".into()),
            kind if kind.is_text() => Given::Text("pass".into()),
            _ => continue,
        };
        // A fact of another type than it says would be unknown, as it was.
        let _ = session.set_fact(fact.name, given);
    }
}
