//! From a finding to facts: each is set, and written down for a replay.
//!
//! How it fails: a finding that does not fit its inquiry is one that could not be made.

use super::{Topic, Way};
use crate::base::inquiry::{Action, Advice, Finding, Inquiry, MailDomain, Signatures, Spf, Verified};
use crate::policy::facts::{FactId, Source};
use crate::policy::functions::write_call;
use crate::policy::session::Session;
use crate::policy::stage::Stage;
use crate::policy::value::{Given, thousandths};
use crate::policy::walk::Need;
use smallvec::SmallVec;
use std::sync::Arc;

impl Session {
    /// Turns a finding into facts.
    pub(super) fn adopt(&mut self, inquiry: &Inquiry, finding: &Finding) {
        let text = |t: &str| Given::Text(t.to_owned());
        match (inquiry, finding) {
            (Inquiry::Reverse(_), Finding::Reverse { claimed, confirmed }) => {
                let (name, word) = match (confirmed, claimed) {
                    (Some(name), _) => (name.lower(), "pass"),
                    (None, Some(_)) => (String::new(), "fail"),
                    (None, None) => (String::new(), "none"),
                };
                self.learn("client.ptr", Given::Text(name));
                self.learn("client.iprev", text(word));
            }
            (Inquiry::Reverse(_), _) => {
                self.learn("client.ptr", Given::Unknown);
                self.learn("client.iprev", text("temperror"));
            }
            (Inquiry::Listed { .. }, finding) => self.adopt_codes(inquiry, finding),
            (Inquiry::MailDomain(_), finding) => self.learn(
                "sender.domain.mail",
                match finding {
                    Finding::MailDomain(MailDomain::Exchangers) => text("mx"),
                    Finding::MailDomain(MailDomain::Address) => text("address"),
                    Finding::MailDomain(MailDomain::NullMx) => text("null-mx"),
                    Finding::MailDomain(MailDomain::Nothing) => text("none"),
                    _ => Given::Unknown,
                },
            ),
            (Inquiry::HeloHost { .. }, finding) => self.learn(
                "helo.matches",
                match finding {
                    Finding::HeloHost(matches) => Given::Flag(*matches),
                    _ => Given::Unknown,
                },
            ),
            (Inquiry::Spf { sender, .. }, finding) => {
                let spf = match finding {
                    Finding::Spf(spf) => spf.clone(),
                    _ => unknown_spf(inquiry),
                };
                if sender.is_none() {
                    self.learn("spf.helo", text(spf.result.word()));
                }
                let in_mail = self.inquiries.standing.is_some_and(|s| s >= Stage::Mail);
                if in_mail && *sender == self.inquiries.sender {
                    self.learn("spf", text(spf.result.word()));
                    self.inquiries.spf = Some(spf);
                }
            }
            (Inquiry::Origin(_), finding) => {
                let (asn, country) = match finding {
                    Finding::Origin { asn, country } => (*asn, country.clone()),
                    _ => (None, None),
                };
                self.learn("client.asn", asn.map_or(Given::Unknown, |n| Given::Number(n.into())));
                self.learn("client.country", country.map_or(Given::Unknown, |c| Given::Text(c.into())));
            }
            (Inquiry::Signatures, finding) => self.adopt_signatures(finding),
            (Inquiry::Consult(name), Finding::Advice(advice)) => self.adopt_advice(name, advice),
            (Inquiry::Consult(name), _) => {
                let failed = Advice { action: Action::Failed, ..Advice::default() };
                self.adopt_advice(name, &failed);
            }
        }
    }

    fn adopt_codes(&mut self, inquiry: &Inquiry, finding: &Finding) {
        let mut values: SmallVec<[(String, Stage, Given); 2]> = SmallVec::new();
        for list in &self.policy.dnsbls {
            if let Way::Ask(asked, since) = self.way(Need::Dnsbl(&list.name))
                && asked == *inquiry
            {
                let given = match finding {
                    Finding::Listed(codes) => Given::Score(list.weigh(codes)),
                    _ => Given::Unknown,
                };
                values.push((list.name.clone(), since, given));
            }
        }
        for (name, since, given) in values {
            self.learn_call("dnsbl", &name, since, given, false);
        }
    }

    fn adopt_signatures(&mut self, finding: &Finding) {
        let unknown = Signatures { arc: Verified::Temperror, dmarc: Verified::Temperror, ..Signatures::default() };
        let (s, failed) = match finding {
            Finding::Signatures(s) => (&**s, false),
            _ => (&unknown, true),
        };
        let text = |t: &str| Given::Text(t.to_owned());
        let best = if failed { Verified::Temperror } else { best(s) };
        let passed: Vec<String> =
            s.dkim.iter().filter(|d| d.result == Verified::Pass).map(|d| d.domain.to_ascii_lowercase()).collect();
        let aligned = s.from_domain.as_deref().map(|from| passed.iter().any(|d| is_aligned(d, from)));
        self.learn("dkim", text(best.word()));
        self.learn("dkim.domains", if failed { Given::Unknown } else { Given::Text(passed.join("\n")) });
        self.learn("dkim.aligned", if failed { Given::Unknown } else { Given::Flag(aligned.unwrap_or(false)) });
        self.learn("arc", text(s.arc.word()));
        let seal = s.arc_domain.as_deref().unwrap_or_default();
        self.learn("arc.domain", if failed { Given::Unknown } else { text(&seal.to_ascii_lowercase()) });
        if self.inquiries.with_spf {
            self.learn("dmarc", text(s.dmarc.word()));
            let wish = s.dmarc_policy.unwrap_or_default();
            self.learn("dmarc.policy", if failed { Given::Unknown } else { text(wish) });
        } else {
            // Asked without SPF: should a rule want DMARC, it is asked again.
            let dmarc_is_open = self.needs(&self.policy).contains(&Need::Topic(Topic::Dmarc));
            if dmarc_is_open {
                self.inquiries.made.retain(|m| m.inquiry != Inquiry::Signatures);
            }
        }
    }

    fn adopt_advice(&mut self, name: &Arc<str>, advice: &Advice) {
        let since = Stage::Rcpt;
        self.learn_call("helper", name, since, Given::Text(advice.action.word().to_owned()), false);
        let score = advice.score.and_then(thousandths).map_or(Given::Unknown, Given::Score);
        self.learn_call("helper_score", name, since, score, false);
        let symbols = advice.symbols.iter().map(|s| s.replace('\n', " ")).collect::<Vec<_>>().join("\n");
        self.learn_call("helper_symbols", name, since, Given::Text(symbols), false);
        self.learn_call(
            "helper_reply",
            name,
            since,
            Given::Text(advice.reply.as_deref().unwrap_or_default().into()),
            true,
        );
        self.inquiries.edits.retain(|(n, _)| n != name);
        if !advice.edits.is_empty() {
            self.inquiries.edits.push((name.clone(), advice.edits.clone()));
        }
    }

    /// A fact was found out: it is set and written down.
    pub(super) fn learn(&mut self, name: &'static str, given: Given) {
        let Some(id) = FactId::find(name) else {
            debug_assert!(false, "{name} is no fact");
            return;
        };
        debug_assert!(
            matches!(id.row().source, Source::Looked) && given.fits(id.row().kind),
            "{name} cannot be {given:?}"
        );
        self.record_fact(name, &given, id.row().personal);
        self.state.found.set_fact(id, given);
    }

    pub(super) fn learn_call(
        &mut self,
        function: &'static str,
        argument: &str,
        since: Stage,
        given: Given,
        personal: bool,
    ) {
        let name = write_call(function, argument);
        self.record_fact(&name, &given, personal);
        self.state.found.set_call(function, argument, since, given);
    }
}

/// The best of the signatures: one that holds proves what the others do not.
fn best(signatures: &Signatures) -> Verified {
    const ORDER: [Verified; 7] = [
        Verified::Pass,
        Verified::Temperror,
        Verified::Policy,
        Verified::Neutral,
        Verified::Softfail,
        Verified::Fail,
        Verified::Permerror,
    ];
    let there = |result: &&Verified| signatures.dkim.iter().any(|d| d.result == **result);
    ORDER.iter().find(there).copied().unwrap_or(Verified::None)
}

/// Whether one of two domains is the other or above it.
fn is_aligned(a: &str, b: &str) -> bool {
    let below = |name: &str, domain: &str| {
        let cut = name.len().checked_sub(domain.len());
        cut.and_then(|cut| name.get(cut..).map(|tail| (cut, tail))).is_some_and(|(cut, tail)| {
            tail.eq_ignore_ascii_case(domain) && (cut == 0 || name.as_bytes()[cut - 1] == b'.')
        })
    };
    // A top-level domain is nobody's.
    a.contains('.') && b.contains('.') && (below(a, b) || below(b, a))
}

fn unknown_spf(inquiry: &Inquiry) -> Spf {
    let Inquiry::Spf { helo, sender, .. } = inquiry else {
        return Spf { result: Verified::Temperror, domain: "".into(), of_helo: false, explanation: None };
    };
    let domain = sender.as_ref().and_then(|m| m.host().domain()).map_or_else(|| helo.clone(), |d| d.as_str().into());
    Spf { result: Verified::Temperror, domain, of_helo: sender.is_none(), explanation: None }
}
