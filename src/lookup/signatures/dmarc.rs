//! DMARC: whether what was authenticated belongs to the author's domain, and what that domain asks for otherwise
//! (RFC 9989, or RFC 7489 with the public suffix list, by `lookup.dmarc_organisation`).
//!
//! How it fails: a name server's failure is [`Verified::Temperror`]; several authors' domains are [`Verified::Permerror`],
//! because whoever reads the message sees only one of them.

use super::super::knobs::Organisation;
use super::super::question::{Key, Miss, is_dns_name};
use super::super::records::Resolve;
use super::keys::{Text, texts};
use crate::base::inquiry::{Signatures, Spf, Verified};
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::dmarc::{Alignment, Dmarc, Policy, Psd};
use std::collections::HashMap;

/// Names asked on the way up from one domain (RFC 9989 §4.10).
const WALK_MAX: usize = 8;

/// What is recorded of the domains of one message.
pub(super) struct Records {
    /// The author's domain in A-labels; `None` without an author.
    author: Option<String>,
    /// There is more than one author's domain.
    several: bool,
    organisation: Organisation,
    /// By domain: its record, none, or a failure.
    policies: HashMap<String, Result<Option<Dmarc>, String>>,
    /// Whether the author's domain exists; only found out when a record tells apart those that do not.
    exists: bool,
}

impl Records {
    /// Asks for the records of the author's domain, and of those that signed or sent and might belong to it.
    pub(super) async fn ask(dns: &Resolve, from: &[String], others: &[String], organisation: Organisation) -> Records {
        let author = from.first().map(|name| a_labels(name)).filter(|name| is_dns_name(name));
        let several = from.iter().any(|name| Some(a_labels(name)) != author);
        let mut records = Records { author, several, organisation, policies: HashMap::new(), exists: true };
        let Some(author) = records.author.clone().filter(|_| !several) else { return records };
        let names = records.steps(&author);
        records.fetch(dns, names).await;
        let Ok(Some((org, tells_apart))) = records.above(&author) else { return records };
        let related = others.iter().map(|name| a_labels(name)).filter(|name| *name != author && is_below(name, &org));
        let names: Vec<String> = related.flat_map(|name| records.steps(&name)).collect();
        records.fetch(dns, names).await;
        if tells_apart {
            // RFC 9989 §4.10.1: a name that does not exist has a policy of its own.
            records.exists = dns.get(&Key::A(author.into())).await.result != Err(Miss::NoName);
        }
        records
    }

    /// The organisational domain of the author, and whether a record tells apart names that do not exist; `None`
    /// without any record.
    fn above(&self, author: &str) -> Result<Option<(String, bool)>, ()> {
        let walk = self.walk(author)?;
        let tells_apart = walk.iter().any(|(_, record)| record.np != record.sp);
        let org = self.organisation_of(author)?;
        Ok((!walk.is_empty()).then_some((org, tells_apart)))
    }

    async fn fetch(&mut self, dns: &Resolve, mut names: Vec<String>) {
        names.sort();
        names.dedup();
        names.retain(|name| !self.policies.contains_key(name));
        let asked: Vec<String> = names.iter().map(|name| format!("_dmarc.{name}")).collect();
        for (name, text) in texts(dns, &asked).await {
            let name = name.strip_prefix("_dmarc.").unwrap_or(&name).to_owned();
            self.policies.insert(name, record(&text));
        }
    }

    /// The names that can have a say in `domain`, itself first.
    fn steps(&self, domain: &str) -> Vec<String> {
        match self.organisation {
            Organisation::SuffixList => {
                let mut names = vec![domain.to_owned()];
                names.extend(psl::domain_str(domain).filter(|org| *org != domain).map(str::to_owned));
                names
            }
            Organisation::TreeWalk => {
                let labels: Vec<&str> = domain.split('.').collect();
                let mut names = vec![domain.to_owned()];
                // RFC 9989 §4.10: a name of eight labels or more goes on with its last seven.
                let next = (labels.len() - 1).min(WALK_MAX - 1);
                names.extend((1..=next).rev().map(|count| labels[labels.len() - count..].join(".")));
                names
            }
        }
    }

    /// The records on the way up, nearest first, up to one that says where it ends.
    fn walk(&self, domain: &str) -> Result<Vec<(String, &Dmarc)>, ()> {
        let mut found = Vec::new();
        for name in self.steps(domain) {
            match self.policies.get(&name) {
                Some(Ok(Some(record))) => {
                    let ends = self.organisation == Organisation::TreeWalk && record.psd != Psd::Default;
                    found.push((name, record));
                    if ends {
                        break;
                    }
                }
                Some(Err(_)) => return Err(()),
                Some(Ok(None)) | None => {}
            }
        }
        Ok(found)
    }

    /// The organisational domain of `domain`.
    fn organisation_of(&self, domain: &str) -> Result<String, ()> {
        if self.organisation == Organisation::SuffixList {
            return Ok(psl::domain_str(domain).unwrap_or(domain).to_owned());
        }
        let walk = self.walk(domain)?;
        // RFC 9989 §4.10.2
        for (name, record) in &walk {
            match record.psd {
                Psd::No => return Ok(name.clone()),
                Psd::Yes if name != domain => {
                    let below = name.split('.').count() + 1;
                    let labels: Vec<&str> = domain.split('.').collect();
                    return Ok(labels[labels.len().saturating_sub(below)..].join("."));
                }
                _ => {}
            }
        }
        Ok(walk.last().map_or_else(|| domain.to_owned(), |(name, _)| name.clone()))
    }

    /// Puts the result into `found`.
    pub(super) fn judge(&self, spf: Option<&Spf>, found: &mut Signatures) {
        found.from_domain = self.author.as_deref().map(Into::into);
        if self.several {
            found.dmarc = Verified::Permerror;
            return;
        }
        let Some(author) = &self.author else { return };
        match self.result(author, spf, found) {
            Ok(None) => {}
            Ok(Some((result, policy))) => {
                found.dmarc = result;
                found.dmarc_policy = Some(policy);
            }
            Err(()) => found.dmarc = Verified::Temperror,
        }
    }

    /// The result and the policy; `None` when nothing is asked for.
    fn result(
        &self,
        author: &str,
        spf: Option<&Spf>,
        found: &Signatures,
    ) -> Result<Option<(Verified, &'static str)>, ()> {
        let walk = self.walk(author)?;
        let org = self.organisation_of(author)?;
        let own = walk.iter().find(|(name, _)| name == author);
        let above = || walk.iter().find(|(name, _)| *name == org).or(walk.last());
        let Some((name, record)) = own.or_else(above) else { return Ok(None) };
        let asked = match () {
            // RFC 9989 §4.7: a record without a policy is one of "none" where it wants reports, else none at all.
            () if record.p == Policy::Unspecified && record.rua.is_empty() => return Ok(None),
            () if record.p == Policy::Unspecified => Policy::None,
            () if name == author => record.p,
            () if !self.exists => record.np,
            () => record.sp,
        };
        // RFC 9989 §4.7: a policy under test counts one step less.
        let policy = match (asked, record.t) {
            (Policy::Reject, false) => "reject",
            (Policy::Reject, true) | (Policy::Quarantine, false) => "quarantine",
            _ => "none",
        };
        let mut doubtful = false;
        if let Some(spf) = spf
            && matches!(spf.result, Verified::Pass | Verified::Temperror)
            && self.aligned(&spf.domain.to_lowercase(), author, &org, record.aspf)?
        {
            if spf.result == Verified::Pass {
                return Ok(Some((Verified::Pass, policy)));
            }
            doubtful = true;
        }
        for dkim in &found.dkim {
            // A signature that was not computed might have passed.
            let unknown = matches!(dkim.result, Verified::Temperror) || is_uncomputed(dkim.reason.as_deref());
            if (dkim.result == Verified::Pass || unknown) && self.aligned(&dkim.domain, author, &org, record.adkim)? {
                if dkim.result == Verified::Pass {
                    return Ok(Some((Verified::Pass, policy)));
                }
                doubtful = true;
            }
        }
        Ok(Some((if doubtful { Verified::Temperror } else { Verified::Fail }, policy)))
    }

    /// Whether `domain` speaks for the author's (RFC 9989 §4.10.2).
    fn aligned(&self, domain: &str, author: &str, org: &str, how: Alignment) -> Result<bool, ()> {
        let domain = a_labels(domain);
        if domain == author {
            return Ok(true);
        }
        Ok(how == Alignment::Relaxed && is_below(&domain, org) && self.organisation_of(&domain)? == org)
    }
}

fn a_labels(name: &str) -> String {
    idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_lowercase())
}

/// Whether `name` is `domain` or below it.
fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// The reason of signatures in a message too large to be hashed begins so.
pub(super) const TOO_LARGE: &str = "larger than ";

fn is_uncomputed(reason: Option<&str>) -> bool {
    reason.is_some_and(|why| why.starts_with(TOO_LARGE))
}

/// The policy among the texts: exactly one record of DMARC, or none (RFC 9989 §4.10.1).
fn record(text: &Text) -> Result<Option<Dmarc>, String> {
    let texts = match text {
        Text::Found(texts) => texts,
        Text::Nothing => return Ok(None),
        Text::Failed(why) => return Err(why.clone()),
    };
    let mut records = texts.iter().filter(|t| t.trim_ascii_start().starts_with(b"v=DMARC1"));
    match (records.next(), records.next()) {
        (Some(text), None) => Ok(Dmarc::parse(text).ok()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::inquiry::Dkim;

    fn records(author: &str, organisation: Organisation, policies: &[(&str, &str)]) -> Records {
        let policies = policies
            .iter()
            .map(|(name, text)| {
                let text = match *text {
                    "fails" => Text::Failed("SERVFAIL".into()),
                    text => Text::Found([text.as_bytes().into()].into()),
                };
                ((*name).to_owned(), record(&text))
            })
            .collect();
        Records { author: Some(author.into()), several: false, organisation, policies, exists: true }
    }

    fn judged(records: &Records, spf: Option<&str>, signers: &[&str]) -> (Verified, Option<&'static str>) {
        let spf =
            spf.map(|domain| Spf { result: Verified::Pass, domain: domain.into(), of_helo: false, explanation: None });
        let dkim = signers.iter().map(|domain| Dkim {
            result: Verified::Pass,
            domain: (*domain).into(),
            selector: "s".into(),
            signature: "".into(),
            reason: None,
        });
        let mut found = Signatures { dkim: dkim.collect(), ..Signatures::default() };
        records.judge(spf.as_ref(), &mut found);
        (found.dmarc, found.dmarc_policy)
    }

    #[test]
    fn what_belongs_together_passes() {
        for organisation in [Organisation::TreeWalk, Organisation::SuffixList] {
            let r = records("mail.example.com", organisation, &[("example.com", "v=DMARC1; p=none; sp=reject")]);
            assert_eq!(judged(&r, Some("example.com"), &[]), (Verified::Pass, Some("reject")));
            assert_eq!(judged(&r, None, &["other.test", "list.example.com"]), (Verified::Pass, Some("reject")));
            assert_eq!(judged(&r, Some("example.net"), &["notexample.com"]), (Verified::Fail, Some("reject")));
            assert_eq!(judged(&r, None, &[]).0, Verified::Fail);
        }
    }

    #[test]
    fn strict_is_strict_and_tests_are_tests() {
        let strict = "v=DMARC1; p=quarantine; adkim=s; aspf=s; t=y";
        let r = records("example.com", Organisation::TreeWalk, &[("example.com", strict)]);
        assert_eq!(judged(&r, Some("mail.example.com"), &["mail.example.com"]), (Verified::Fail, Some("none")));
        assert_eq!(judged(&r, None, &["example.com"]), (Verified::Pass, Some("none")));
    }

    #[test]
    fn the_walk_stops_where_a_domain_is_its_own() {
        let texts = [("example.com", "v=DMARC1; p=reject"), ("shop.example.com", "v=DMARC1; p=none; psd=n")];
        let r = records("shop.example.com", Organisation::TreeWalk, &texts);
        assert_eq!(judged(&r, None, &["example.com"]), (Verified::Fail, Some("none")), "not the same organisation");
        let psd = [("bank", "v=DMARC1; p=reject; psd=y"), ("a.bank", "v=DMARC1; p=none")];
        let r = records("x.a.bank", Organisation::TreeWalk, &psd);
        assert_eq!(judged(&r, None, &["y.a.bank"]).0, Verified::Pass);
        assert_eq!(judged(&r, None, &["b.bank"]).0, Verified::Fail);
    }

    #[test]
    fn names_that_do_not_exist_have_their_policy() {
        let text = [("example.com", "v=DMARC1; p=none; sp=none; np=reject")];
        let mut r = records("nothing.example.com", Organisation::TreeWalk, &text);
        assert_eq!(judged(&r, None, &[]).1, Some("none"));
        r.exists = false;
        assert_eq!(judged(&r, None, &[]).1, Some("reject"));
    }

    #[test]
    fn failures_and_several_authors() {
        let r = records("example.com", Organisation::TreeWalk, &[("example.com", "fails")]);
        assert_eq!(judged(&r, None, &["example.com"]).0, Verified::Temperror);
        let mut r = records("example.com", Organisation::TreeWalk, &[("example.com", "v=DMARC1; p=reject")]);
        r.several = true;
        assert_eq!(judged(&r, None, &["example.com"]).0, Verified::Permerror);
        let none = records("example.com", Organisation::TreeWalk, &[]);
        assert_eq!(judged(&none, None, &["example.com"]), (Verified::None, None));
        let bad = records("example.com", Organisation::TreeWalk, &[("example.com", "v=DMARC1; p=banana")]);
        assert_eq!(judged(&bad, None, &["example.com"]), (Verified::None, None));
    }

    #[test]
    fn long_names_walk_eight_steps() {
        let r = records("x.test", Organisation::TreeWalk, &[]);
        let steps = r.steps("a.b.c.d.e.f.g.h.i.j.mail.example.com");
        assert_eq!(steps.len(), WALK_MAX);
        assert_eq!(steps[1], "g.h.i.j.mail.example.com");
        assert_eq!(r.steps("example.com"), ["example.com", "com"]);
        assert_eq!(r.steps("com"), ["com"]);
    }
}
