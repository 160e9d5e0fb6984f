//! The command lines of the client: MAIL and RCPT with the parameters the backend offers to take.
//!
//! How it fails: emission is total; what a backend cannot take is found by [`super::fit`] before.

use crate::base::address::{Mailbox, ReversePath};
use crate::base::envelope::{BodyType, MailParameters, Recipient};
use crate::wire::response::Capabilities;
use crate::wire::{params, xtext};
use std::fmt::Write;

/// What the backend is told about a message besides the sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct MailFacts<'a> {
    /// The parameters the message came with.
    pub parameters: &'a MailParameters,
    /// Octets that will be sent, trace fields included.
    pub octets: u64,
    /// The body type to declare.
    pub body: BodyType,
    /// Whether SMTPUTF8 is declared.
    pub smtputf8: bool,
    /// Whether we are logged in, so that AUTH= means something (RFC 4954 §5).
    pub authenticated: bool,
}

/// `MAIL FROM:<…> …`
pub(super) fn mail(sender: &ReversePath, facts: &MailFacts<'_>, offered: &Capabilities, out: &mut String) {
    push(out, format_args!("MAIL FROM:<{sender}>"));
    if offered.size.is_some() {
        push(out, format_args!(" SIZE={}", facts.octets)); // RFC 1870 §6.1
    }
    match facts.body {
        BodyType::BinaryMime if offered.binarymime => out.push_str(" BODY=BINARYMIME"),
        BodyType::EightBitMime if offered.eight_bit_mime => out.push_str(" BODY=8BITMIME"),
        _ => {}
    }
    if facts.smtputf8 && offered.smtputf8 {
        out.push_str(" SMTPUTF8");
    }
    if offered.dsn {
        if let Some(ret) = facts.parameters.ret {
            push(out, format_args!(" RET={}", params::emit_ret(ret)));
        }
        if let Some(envid) = facts.parameters.envid.as_deref().filter(|e| !e.is_empty()) {
            push(out, format_args!(" ENVID={}", xtext::encode(envid)));
        }
    }
    if let (Some(auth), true) = (&facts.parameters.auth, facts.authenticated && !offered.auth.is_empty()) {
        push(out, format_args!(" AUTH={}", params::emit_auth(auth)));
    }
    out.push_str("\r\n");
}

/// `RCPT TO:<…> …`
pub(super) fn rcpt(recipient: &Recipient, smtputf8: bool, offered: &Capabilities, out: &mut String) {
    push(out, format_args!("RCPT TO:<{}>", recipient.mailbox));
    if offered.dsn {
        if let Some(notify) = recipient.notify {
            push(out, format_args!(" NOTIFY={}", params::emit_notify(notify)));
        }
        if let Some(original) = &recipient.original {
            let utf8 = smtputf8 && offered.smtputf8;
            push(out, format_args!(" ORCPT={}", params::emit_orcpt(original, utf8)));
        }
    }
    out.push_str("\r\n");
}

/// `RCPT TO:<…>` of a callout.
pub(super) fn callout_rcpt(mailbox: &Mailbox, out: &mut String) {
    push(out, format_args!("RCPT TO:<{mailbox}>\r\n"));
}

/// `MAIL FROM:<…>` of a callout.
pub(super) fn callout_mail(sender: &ReversePath, smtputf8: bool, out: &mut String) {
    push(out, format_args!("MAIL FROM:<{sender}>{}\r\n", if smtputf8 { " SMTPUTF8" } else { "" }));
}

/// `BDAT n LAST` (RFC 3030 §2).
pub(super) fn bdat_last(octets: u64, out: &mut String) {
    push(out, format_args!("BDAT {octets} LAST\r\n"));
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::{Domain, Host};
    use crate::base::envelope::{Notify, OriginalRecipient, Ret};

    fn mailbox(local: &str) -> Mailbox {
        Mailbox::from_checked(local, Host::Domain(Domain::from_checked("example.test")))
    }

    fn everything() -> Capabilities {
        Capabilities {
            size: Some(0),
            eight_bit_mime: true,
            smtputf8: true,
            chunking: true,
            binarymime: true,
            dsn: true,
            auth: vec!["PLAIN".into()],
            ..Capabilities::default()
        }
    }

    #[test]
    fn parameters_go_where_they_are_offered() {
        let parameters = MailParameters {
            ret: Some(Ret::Headers),
            envid: Some("a+b=c d".into()),
            auth: Some(String::new()),
            ..MailParameters::default()
        };
        let facts = MailFacts {
            parameters: &parameters,
            octets: 7,
            body: BodyType::EightBitMime,
            smtputf8: true,
            authenticated: true,
        };
        let mut out = String::new();
        mail(&ReversePath::Mailbox(mailbox("x y")), &facts, &everything(), &mut out);
        assert_eq!(
            out,
            "MAIL FROM:<\"x y\"@example.test> SIZE=7 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb+3Dc+20d AUTH=<>\r\n"
        );
        out.clear();
        mail(&ReversePath::Null, &facts, &Capabilities::default(), &mut out);
        assert_eq!(out, "MAIL FROM:<>\r\n");
    }

    #[test]
    fn recipients_carry_their_dsn_wishes() {
        let original = OriginalRecipient { address_type: "utf-8".into(), address: "jörg+x@b".into() };
        let r = Recipient { mailbox: mailbox("bob"), notify: Some(Notify::default()), original: Some(original) };
        let mut out = String::new();
        rcpt(&r, true, &everything(), &mut out);
        rcpt(&r, false, &everything(), &mut out);
        rcpt(&r, true, &Capabilities::default(), &mut out);
        assert_eq!(
            out,
            "RCPT TO:<bob@example.test> NOTIFY=NEVER ORCPT=utf-8;jörg\\x{2B}x@b\r\n\
             RCPT TO:<bob@example.test> NOTIFY=NEVER ORCPT=utf-8;j\\x{F6}rg\\x{2B}x@b\r\n\
             RCPT TO:<bob@example.test>\r\n"
        );
    }
}
