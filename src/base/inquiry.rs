//! What somebody who may wait is to find out about a client or a message, and what was found: the policy says what its
//! rules can need ([`Inquiry`]), the lookup lane answers ([`Finding`]), the gateway carries both without looking.
//!
//! How it fails: it does not; what could not be found out is [`Finding::Unknown`] with the reason.

use super::address::{Domain, Mailbox};
use super::body::Body;
use super::id::SessionId;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Something to be found out. Equal inquiries have equal answers within a transaction, so each is made once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inquiry {
    /// The names of an address, and one of them that resolves back to it (RFC 8601 §2.7.3, "iprev").
    Reverse(IpAddr),
    /// Whether a list in the DNS holds the subject (RFC 5782).
    Listed {
        /// The list.
        zone: Domain,
        /// Who is looked for.
        subject: Subject,
    },
    /// Whether a domain can take mail (RFC 5321 §5.1, RFC 7505).
    MailDomain(Domain),
    /// Whether the name a client gave in HELO has the client's address.
    HeloHost {
        /// What it called itself.
        name: Domain,
        /// Its address.
        client: IpAddr,
    },
    /// SPF (RFC 7208) of the sender, or of the HELO name where the sender is null.
    Spf {
        /// Who sends.
        client: IpAddr,
        /// What it called itself.
        helo: Box<str>,
        /// MAIL FROM; `None` for the null sender.
        sender: Option<Mailbox>,
    },
    /// Where an address belongs: AS number and country, from a database on this machine.
    Origin(IpAddr),
    /// DKIM, ARC and DMARC of the whole message; needs a [`Case`] with a body.
    Signatures,
    /// What a helper says (milter, rspamd, policy service) about the transaction as it is now; needs a [`Case`].
    Consult(
        /// Name of the helper's section in the configuration.
        Arc<str>,
    ),
}

/// Who is looked for in a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An address (RFC 5782 §2.1 and §2.4).
    Address(IpAddr),
    /// A name (RFC 5782 §2.2).
    Name(Domain),
}

/// What a helper or a check of signatures is told of a session and its transaction.
#[derive(Clone, Debug)]
pub struct Case {
    /// The session.
    pub session: SessionId,
    /// Our name in the protocol.
    pub host: Domain,
    /// The listener: `mx`, `submission`, `lmtp` or its name.
    pub listener: Arc<str>,
    /// Who sends.
    pub client: SocketAddr,
    /// Where it came to.
    pub local: SocketAddr,
    /// Its confirmed name.
    pub client_name: Option<Domain>,
    /// HELO or EHLO.
    pub helo: String,
    /// Version and cipher.
    pub tls: Option<(String, String)>,
    /// Who has logged in.
    pub user: Option<String>,
    /// MAIL FROM; `None` for the null sender.
    pub sender: Option<Mailbox>,
    /// Those accepted so far; when a policy service is asked at RCPT, the last one is the one in question.
    pub recipients: Vec<Mailbox>,
    /// Number of the transaction in its session, from 1.
    pub transaction: u32,
    /// What SPF said of the sender, when it was asked: DMARC needs it.
    pub spf: Option<Spf>,
    /// The whole message, once it is there.
    pub body: Option<Body>,
}

/// The answer to an [`Inquiry`].
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// To [`Inquiry::Reverse`].
    Reverse {
        /// The first recorded name, confirmed or not.
        claimed: Option<Domain>,
        /// The first recorded name that resolves back.
        confirmed: Option<Domain>,
    },
    /// To [`Inquiry::Listed`]: the codes, none when it is not listed.
    Listed(Vec<Ipv4Addr>),
    /// To [`Inquiry::MailDomain`].
    MailDomain(MailDomain),
    /// To [`Inquiry::HeloHost`].
    HeloHost(bool),
    /// To [`Inquiry::Spf`].
    Spf(Spf),
    /// To [`Inquiry::Origin`].
    Origin {
        /// Autonomous system number.
        asn: Option<u32>,
        /// ISO 3166 code in upper case.
        country: Option<Box<str>>,
    },
    /// To [`Inquiry::Signatures`].
    Signatures(Box<Signatures>),
    /// To [`Inquiry::Consult`].
    Advice(Box<Advice>),
    /// It could not be found out (a time limit, a server's failure, an open circuit): why. Never kept for long.
    Unknown(Box<str>),
}

/// Whether a domain can take mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailDomain {
    /// It has mail exchangers.
    Exchangers,
    /// It has none, but an address (RFC 5321 §5.1, implicit MX).
    Address,
    /// It says that it takes none (RFC 7505).
    NullMx,
    /// It has neither, or does not exist.
    Nothing,
}

/// The words of RFC 8601 §2.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verified {
    /// Nothing to check.
    #[default]
    None,
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// SPF: probably not.
    Softfail,
    /// SPF and DKIM: no statement.
    Neutral,
    /// Acceptable, but not by local policy.
    Policy,
    /// Could not be checked now.
    Temperror,
    /// Cannot be checked: the record or the signature is broken.
    Permerror,
}

impl Verified {
    /// As it is written in Authentication-Results and in rules.
    pub const fn word(self) -> &'static str {
        match self {
            Verified::None => "none",
            Verified::Pass => "pass",
            Verified::Fail => "fail",
            Verified::Softfail => "softfail",
            Verified::Neutral => "neutral",
            Verified::Policy => "policy",
            Verified::Temperror => "temperror",
            Verified::Permerror => "permerror",
        }
    }
}

/// What SPF says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spf {
    /// The result.
    pub result: Verified,
    /// The domain that was checked.
    pub domain: Box<str>,
    /// Whether it is that of HELO.
    pub of_helo: bool,
    /// The domain's own explanation of a failure (RFC 7208 §6.2).
    pub explanation: Option<Box<str>>,
}

/// What the signatures of a message say.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Signatures {
    /// One for each DKIM signature looked at, in the order of the message.
    pub dkim: Vec<Dkim>,
    /// The ARC chain (RFC 8617).
    pub arc: Verified,
    /// The domain of the last ARC seal.
    pub arc_domain: Option<Box<str>>,
    /// DMARC (RFC 7489).
    pub dmarc: Verified,
    /// The domain in From.
    pub from_domain: Option<Box<str>>,
    /// What that domain asks to be done: `none`, `quarantine` or `reject`; `None` without a record.
    pub dmarc_policy: Option<&'static str>,
}

/// A DKIM signature (RFC 6376).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dkim {
    /// The result.
    pub result: Verified,
    /// `d=`.
    pub domain: Box<str>,
    /// `s=`.
    pub selector: Box<str>,
    /// The first octets of `b=` (RFC 6008).
    pub signature: Box<str>,
    /// What was wrong.
    pub reason: Option<Box<str>>,
}

/// What a helper advises.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Advice {
    /// What to do.
    pub action: Action,
    /// The reply it wants, `550 5.7.1 text`; several lines are separated by LF.
    pub reply: Option<Box<str>>,
    /// Its score, where it has one.
    pub score: Option<f64>,
    /// The score from which it rejects.
    pub threshold: Option<f64>,
    /// What it found, by its own names.
    pub symbols: Vec<Box<str>>,
    /// How it wants the message changed, in order.
    pub edits: Vec<Edit>,
}

/// What a helper wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Action {
    /// Nothing against it.
    #[default]
    Accept,
    /// 5xx.
    Reject,
    /// 4xx.
    Defer,
    /// Accept and throw away.
    Discard,
    /// Keep aside.
    Quarantine,
    /// Defer as one defers an unknown sender.
    Greylist,
    /// It could not be asked; what that means is the policy's to say.
    Failed,
}

impl Action {
    /// As rules write it.
    pub const fn word(self) -> &'static str {
        match self {
            Action::Accept => "accept",
            Action::Reject => "reject",
            Action::Defer => "defer",
            Action::Discard => "discard",
            Action::Quarantine => "quarantine",
            Action::Greylist => "greylist",
            Action::Failed => "failed",
        }
    }
}

/// One change to a message or its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A field at the end of the header section.
    AddField {
        /// Its name.
        name: Box<str>,
        /// Its text, folded as it is to be.
        value: Box<str>,
    },
    /// A field at this place, from 0.
    InsertField {
        /// How many fields stand above it.
        at: u32,
        /// Its name.
        name: Box<str>,
        /// Its text.
        value: Box<str>,
    },
    /// Another text for the field that is the `occurrence`th of its name, from 1; `None` removes it.
    ChangeField {
        /// Which of that name.
        occurrence: u32,
        /// Its name.
        name: Box<str>,
        /// Its new text.
        value: Option<Box<str>>,
    },
    /// Another body below the header section.
    ReplaceBody(Arc<Vec<u8>>),
    /// Another envelope sender; `None` is the null sender.
    ChangeSender(Option<Mailbox>),
    /// One more recipient.
    AddRecipient(Mailbox),
    /// One recipient less.
    RemoveRecipient(Mailbox),
}
