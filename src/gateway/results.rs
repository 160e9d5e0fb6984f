//! What was found out about a client and its message, and the field that tells those behind us (RFC 8601).
//!
//! How it fails: it does not; what could not be found out is told as `temperror`.

use crate::base::inquiry::{Finding, Inquiry, Signatures, Spf, Verified};
use crate::wire::authentication_results::{AuthenticationResults, MethodResult};
use std::net::IpAddr;

/// What was found out so far, by what it belongs to.
#[derive(Debug, Default)]
pub(super) struct Checks {
    iprev: Option<(IpAddr, Verified)>,
    spf_helo: Option<Spf>,
    spf: Option<Spf>,
    signatures: Option<Signatures>,
}

/// DKIM signatures that are told of one message at most.
const SIGNATURES_MAX: usize = 10;

impl Checks {
    /// A new greeting: what was about the last one is forgotten.
    pub fn begin_greeting(&mut self) {
        self.spf_helo = None;
        self.begin_message();
    }
    /// A new transaction.
    pub fn begin_message(&mut self) {
        (self.spf, self.signatures) = (None, None);
    }

    /// Keeps what can be told.
    pub fn found(&mut self, inquiry: &Inquiry, finding: &Finding) {
        match (inquiry, finding) {
            (Inquiry::Reverse(ip), Finding::Reverse { claimed, confirmed }) => {
                // RFC 8601 §2.7.3: without any name it is a permanent error.
                let result = match (confirmed, claimed) {
                    (Some(_), _) => Verified::Pass,
                    (None, Some(_)) => Verified::Fail,
                    (None, None) => Verified::Permerror,
                };
                self.iprev = Some((*ip, result));
            }
            (Inquiry::Reverse(ip), _) => self.iprev = Some((*ip, Verified::Temperror)),
            (Inquiry::Spf { sender, helo, .. }, finding) => {
                let failed = || Spf {
                    result: Verified::Temperror,
                    domain: match sender {
                        Some(mailbox) => mailbox.host().to_string().into(),
                        None => helo.clone(),
                    },
                    of_helo: sender.is_none(),
                    explanation: None,
                };
                let spf = if let Finding::Spf(spf) = finding { spf.clone() } else { failed() };
                match sender {
                    Some(_) => self.spf = Some(spf),
                    None => self.spf_helo = Some(spf),
                }
            }
            (Inquiry::Signatures, Finding::Signatures(signatures)) => self.signatures = Some((**signatures).clone()),
            (Inquiry::Signatures, _) => {
                let unknown =
                    Signatures { arc: Verified::Temperror, dmarc: Verified::Temperror, ..Signatures::default() };
                self.signatures = Some(unknown);
            }
            _ => {}
        }
    }

    /// The field, when there is anything to tell. `logged_in` is the sender of a client that has authenticated: its login
    /// name is nobody's business behind us.
    pub fn field(&self, id: &str, sender: &str, logged_in: bool) -> Option<String> {
        let mut results = Vec::new();
        if logged_in {
            results.push(MethodResult::new("auth", "pass").about("smtp", "mailfrom", sender));
        }
        if let Some((ip, result)) = &self.iprev {
            results.push(MethodResult::new("iprev", result.word()).about("policy", "iprev", &ip.to_string()));
        }
        if let Some(spf) = &self.spf_helo {
            results.push(MethodResult::new("spf", spf.result.word()).about("smtp", "helo", &spf.domain));
        }
        if let Some(spf) = &self.spf {
            results.push(MethodResult::new("spf", spf.result.word()).about("smtp", "mailfrom", sender));
        }
        if let Some(signatures) = &self.signatures {
            of_signatures(signatures, &mut results);
        }
        let field = AuthenticationResults { id: id.to_owned(), results };
        (!field.results.is_empty()).then(|| field.emit())
    }
}

fn of_signatures(s: &Signatures, results: &mut Vec<MethodResult>) {
    let unknown = s.dkim.is_empty() && s.arc == Verified::Temperror && s.dmarc == Verified::Temperror;
    if s.dkim.is_empty() {
        results.push(MethodResult::new("dkim", if unknown { "temperror" } else { "none" }));
    }
    for d in s.dkim.iter().take(SIGNATURES_MAX) {
        let result = MethodResult::new("dkim", d.result.word()).because(d.reason.as_deref());
        let result = result.about("header", "d", &d.domain).about("header", "s", &d.selector);
        results.push(result.about("header", "b", &d.signature)); // RFC 6008
    }
    let dmarc = MethodResult::new("dmarc", s.dmarc.word());
    let dmarc = dmarc.about("header", "from", s.from_domain.as_deref().unwrap_or_default());
    results.push(dmarc.about("policy", "dmarc", s.dmarc_policy.unwrap_or_default()));
    if s.arc != Verified::None {
        let arc = MethodResult::new("arc", s.arc.word());
        results.push(arc.about("header", "d", s.arc_domain.as_deref().unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::inquiry::Dkim;
    use crate::wire::address::parse_mailbox;

    #[test]
    fn only_what_was_found_out_is_told() {
        let mut checks = Checks::default();
        assert_eq!(checks.field("mx", "a@b.example", false), None);
        assert_eq!(checks.field("mx", "a@b.example", true).unwrap().lines().count(), 2);
        let ip: IpAddr = "2001:db8::1".parse().unwrap();
        checks.found(&Inquiry::Reverse(ip), &Finding::Reverse { claimed: None, confirmed: None });
        let sender = Some(parse_mailbox("a@b.example").unwrap());
        let spf = Inquiry::Spf { client: ip, helo: "h.example".into(), sender };
        checks.found(&spf, &Finding::Unknown("time".into()));
        let dkim = Dkim {
            result: Verified::Fail,
            domain: "b.example".into(),
            selector: "s".into(),
            signature: "abc/+d==".into(),
            reason: Some("body hash".into()),
        };
        let signatures = Signatures {
            dkim: vec![dkim],
            dmarc: Verified::Fail,
            dmarc_policy: Some("reject"),
            from_domain: Some("b.example".into()),
            ..Signatures::default()
        };
        checks.found(&Inquiry::Signatures, &Finding::Signatures(Box::new(signatures)));
        assert_eq!(
            checks.field("mx.example.test", "a@b.example", false).unwrap(),
            "Authentication-Results: mx.example.test;\r\n\tiprev=permerror policy.iprev=2001:db8::1;\r\n\tspf=temperror \
             smtp.mailfrom=a@b.example;\r\n\tdkim=fail reason=\"body hash\" header.d=b.example header.s=s\r\n\t \
             header.b=\"abc/+d==\";\r\n\tdmarc=fail header.from=b.example policy.dmarc=reject\r\n"
                .replace("\"abc/+d==\"", "abc/+d==")
        );
        checks.begin_message();
        assert_eq!(checks.field("mx", "", false).unwrap().matches('=').count(), 2, "the client's name stays");
    }
}
