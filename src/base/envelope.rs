//! The envelope of a message: where it came from, its reverse path, its recipients and what the client asked for them;
//! with the one codec that the spool and the mailbox log use.
//!
//! How it fails: [`Envelope::decode`] returns a [`CodecError`] for foreign bytes.

use crate::base::address::{Domain, Host, Mailbox, ReversePath};
use crate::base::codec::{CodecError, Reader, Writer};
use crate::base::id::SessionId;
use crate::base::time::WallTime;
use std::net::{IpAddr, SocketAddr};

/// How the message reached us; `Display` is the `with` word of a Received field (RFC 3848, RFC 6531 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Protocol {
    /// LHLO instead of EHLO (RFC 2033).
    pub lmtp: bool,
    /// EHLO rather than HELO.
    pub extended: bool,
    /// Over TLS.
    pub tls: bool,
    /// After successful AUTH.
    pub authenticated: bool,
    /// With SMTPUTF8 in force.
    pub utf8: bool,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.utf8 {
            f.write_str("UTF8")?;
        }
        f.write_str(match (self.lmtp, self.extended || self.utf8) {
            (true, _) => "LMTP",
            (false, true) if self.utf8 => "SMTP",
            (false, true) => "ESMTP",
            (false, false) => return f.write_str("SMTP"),
        })?;
        if self.tls {
            f.write_str("S")?;
        }
        if self.authenticated {
            f.write_str("A")?;
        }
        Ok(())
    }
}

/// Where a message came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The session that brought it.
    pub session: SessionId,
    /// When its last octet had come.
    pub received: WallTime,
    /// The client, unless we made the message ourselves.
    pub client: Option<SocketAddr>,
    /// The argument of HELO or EHLO.
    pub helo: String,
    /// How.
    pub protocol: Protocol,
    /// The authenticated user.
    pub user: Option<String>,
}

/// BODY= of RFC 1652 and RFC 3030.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BodyType {
    /// Not given, or 7BIT.
    #[default]
    SevenBit,
    /// 8BITMIME.
    EightBitMime,
    /// BINARYMIME.
    BinaryMime,
}

/// RET= of RFC 3461 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header section.
    Headers,
}

/// The parameters of MAIL FROM.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MailParameters {
    /// SIZE= of RFC 1870, octets.
    pub size: Option<u64>,
    /// BODY=
    pub body: BodyType,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// RET=
    pub ret: Option<Ret>,
    /// ENVID= decoded from xtext (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// AUTH= decoded from xtext; `<>` is the empty string (RFC 4954 §5).
    pub auth: Option<String>,
}

/// NOTIFY= of RFC 3461 §4.1. All false is NEVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Notify {
    /// SUCCESS
    pub success: bool,
    /// FAILURE
    pub failure: bool,
    /// DELAY
    pub delay: bool,
}

/// ORCPT= of RFC 3461 §4.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// `rfc822`, `utf-8`, …
    pub address_type: String,
    /// Decoded from xtext.
    pub address: String,
}

/// One recipient with the parameters of its RCPT TO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Where to.
    pub mailbox: Mailbox,
    /// NOTIFY=, absent means FAILURE and perhaps DELAY.
    pub notify: Option<Notify>,
    /// ORCPT=
    pub original: Option<OriginalRecipient>,
}

impl Recipient {
    /// A recipient without parameters.
    pub fn plain(mailbox: Mailbox) -> Recipient {
        Recipient { mailbox, notify: None, original: None }
    }
}

/// Everything about a message that is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where it came from.
    pub origin: Origin,
    /// MAIL FROM.
    pub sender: ReversePath,
    /// Parameters of MAIL FROM.
    pub parameters: MailParameters,
    /// RCPT TO, in the order they were given.
    pub recipients: Vec<Recipient>,
}

const CODEC_VERSION: u8 = 1;

impl Envelope {
    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        w.octet(CODEC_VERSION);
        let o = &self.origin;
        w.varint(o.session.0);
        w.varint(o.received.as_millis());
        w.option(o.client, |w, c| {
            match c.ip() {
                IpAddr::V4(ip) => w.bytes(&ip.octets()),
                IpAddr::V6(ip) => w.bytes(&ip.octets()),
            }
            w.varint(u64::from(c.port()));
        });
        w.text(&o.helo);
        let p = o.protocol;
        let flags = [p.lmtp, p.extended, p.tls, p.authenticated, p.utf8];
        w.octet(flags.iter().enumerate().map(|(i, on)| u8::from(*on) << i).sum());
        w.option(o.user.as_deref(), |w, u| w.text(u));
        w.option(self.sender.mailbox(), write_mailbox);
        let m = &self.parameters;
        w.option(m.size, |w, n| w.varint(n));
        w.octet(match m.body {
            BodyType::SevenBit => 0,
            BodyType::EightBitMime => 1,
            BodyType::BinaryMime => 2,
        });
        w.octet(u8::from(m.smtputf8));
        w.option(m.ret, |w, r| w.octet(u8::from(r == Ret::Headers)));
        w.option(m.envid.as_deref(), |w, t| w.text(t));
        w.option(m.auth.as_deref(), |w, t| w.text(t));
        w.varint(self.recipients.len() as u64);
        self.recipients.iter().for_each(|r| r.encode_to(&mut w));
    }

    /// Reads what [`Envelope::encode`] wrote, leaving the reader behind it.
    pub fn decode(r: &mut Reader<'_>) -> Result<Envelope, CodecError> {
        if r.octet()? != CODEC_VERSION {
            return Err(r.error("envelope version 1"));
        }
        let session = SessionId(r.varint()?);
        let received = WallTime::from_millis(r.varint()?);
        let client = r.option(|r| {
            let octets = r.bytes()?;
            let ip = match octets.len() {
                4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
                16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
                _ => None,
            };
            let ip = ip.ok_or_else(|| r.error("an address of 4 or 16 octets"))?;
            let port = u16::try_from(r.varint()?).map_err(|_| r.error("a port"))?;
            Ok(SocketAddr::new(ip, port))
        })?;
        let helo = r.text()?.to_owned();
        let flags = r.octet()?;
        let on = |i: u8| flags >> i & 1 == 1;
        let protocol = Protocol { lmtp: on(0), extended: on(1), tls: on(2), authenticated: on(3), utf8: on(4) };
        let user = r.option(|r| r.text().map(str::to_owned))?;
        let sender = r.option(read_mailbox)?.map_or(ReversePath::Null, ReversePath::Mailbox);
        let size = r.option(Reader::varint)?;
        let body = match r.octet()? {
            0 => BodyType::SevenBit,
            1 => BodyType::EightBitMime,
            2 => BodyType::BinaryMime,
            _ => return Err(r.error("a body type")),
        };
        let smtputf8 = r.octet()? == 1;
        let ret = r.option(|r| Ok(if r.octet()? == 1 { Ret::Headers } else { Ret::Full }))?;
        let envid = r.option(|r| r.text().map(str::to_owned))?;
        let auth = r.option(|r| r.text().map(str::to_owned))?;
        let count = r.varint()?;
        let mut recipients = Vec::new();
        for _ in 0..count {
            recipients.push(Recipient::decode(r)?);
        }
        Ok(Envelope {
            origin: Origin { session, received, client, helo, protocol, user },
            sender,
            parameters: MailParameters { size, body, smtputf8, ret, envid, auth },
            recipients,
        })
    }
}

impl Recipient {
    fn encode_to(&self, w: &mut Writer<'_>) {
        write_mailbox(w, &self.mailbox);
        w.option(self.notify, |w, n| {
            w.octet(u8::from(n.success) | u8::from(n.failure) << 1 | u8::from(n.delay) << 2);
        });
        w.option(self.original.as_ref(), |w, o| {
            w.text(&o.address_type);
            w.text(&o.address);
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Recipient, CodecError> {
        let mailbox = read_mailbox(r)?;
        let notify = r.option(|r| {
            let n = r.octet()?;
            Ok(Notify { success: n & 1 != 0, failure: n & 2 != 0, delay: n & 4 != 0 })
        })?;
        let original =
            r.option(|r| Ok(OriginalRecipient { address_type: r.text()?.to_owned(), address: r.text()?.to_owned() }))?;
        Ok(Recipient { mailbox, notify, original })
    }
}

fn write_mailbox(w: &mut Writer<'_>, m: &Mailbox) {
    w.text(m.local());
    match m.host() {
        Host::Domain(d) => {
            w.octet(0);
            w.text(d.as_str());
        }
        Host::Ip(IpAddr::V4(ip)) => {
            w.octet(4);
            w.bytes(&ip.octets());
        }
        Host::Ip(IpAddr::V6(ip)) => {
            w.octet(6);
            w.bytes(&ip.octets());
        }
    }
}

fn read_mailbox(r: &mut Reader<'_>) -> Result<Mailbox, CodecError> {
    let local = r.text()?;
    if local.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err(r.error("a local part without controls"));
    }
    let host = match r.octet()? {
        0 => {
            let d = r.text()?;
            let ok =
                !d.is_empty() && d.len() <= Domain::OCTETS_MAX && !d.bytes().any(|b| b <= b' ' || b"@<>".contains(&b));
            if !ok {
                return Err(r.error("a domain"));
            }
            Host::Domain(Domain::from_checked(d))
        }
        4 => Host::Ip(<[u8; 4]>::try_from(r.bytes()?).map_err(|_| r.error("4 octets"))?.into()),
        6 => Host::Ip(<[u8; 16]>::try_from(r.bytes()?).map_err(|_| r.error("16 octets"))?.into()),
        _ => return Err(r.error("a kind of host")),
    };
    Ok(Mailbox::from_checked(local, host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mailbox(local: &str, domain: &str) -> Mailbox {
        Mailbox::from_checked(local, Host::Domain(Domain::from_checked(domain)))
    }

    pub(crate) fn sample() -> Envelope {
        Envelope {
            origin: Origin {
                session: SessionId(77),
                received: WallTime::from_millis(1_795_437_121_042),
                client: Some("[2001:db8::9]:4711".parse().unwrap()),
                helo: "mail.example.org".into(),
                protocol: Protocol { extended: true, tls: true, ..Protocol::default() },
                user: Some("ann".into()),
            },
            sender: ReversePath::Mailbox(mailbox("ann", "example.org")),
            parameters: MailParameters {
                size: Some(1234),
                body: BodyType::EightBitMime,
                smtputf8: true,
                ret: Some(Ret::Headers),
                envid: Some("Q+1".into()),
                auth: Some(String::new()),
            },
            recipients: vec![
                Recipient::plain(mailbox("bob", "example.test")),
                Recipient {
                    mailbox: Mailbox::from_checked("x y", Host::Ip("192.0.2.7".parse().unwrap())),
                    notify: Some(Notify { success: true, failure: false, delay: true }),
                    original: Some(OriginalRecipient { address_type: "rfc822".into(), address: "a@b".into() }),
                },
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let e = sample();
        let mut bytes = Vec::new();
        e.encode(&mut bytes);
        assert_eq!(Envelope::decode(&mut Reader::new(&bytes)).unwrap(), e);
        for cut in 0..bytes.len() {
            assert!(Envelope::decode(&mut Reader::new(&bytes[..cut])).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn the_with_word_is_that_of_rfc_3848() {
        let p = Protocol { extended: true, tls: true, authenticated: true, ..Protocol::default() };
        assert_eq!(p.to_string(), "ESMTPSA");
        assert_eq!(Protocol { utf8: true, ..p }.to_string(), "UTF8SMTPSA");
        assert_eq!(Protocol { lmtp: true, ..p }.to_string(), "LMTPSA");
        assert_eq!(Protocol::default().to_string(), "SMTP");
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Envelope::decode(&mut Reader::new(&bytes));
        }
    }
}
