//! What a mail server tells a filter (`SMFIC_*`).
//!
//! How it fails: reading returns [`MilterError`]; writing is total.

use super::frame::put_frame;
use super::{Data, Frame, MilterError, Negotiation, Stage, Text, put_text};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Who is connected, as a filter is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer<'a> {
    /// Nobody knows.
    Unknown,
    /// A process of the same machine, by its socket's path.
    Local(Text<'a>),
    /// Address and port.
    Internet(SocketAddr),
}

/// One thing that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// What we offer.
    Negotiate(Negotiation<'a>),
    /// Names and values that belong to the command of this stage, told before it.
    Macros(Stage, Vec<(Text<'a>, Text<'a>)>),
    /// Somebody has connected.
    Connect {
        /// Its name, or its address in brackets.
        host: Text<'a>,
        /// Its address.
        peer: Peer<'a>,
    },
    /// HELO or EHLO and what was said.
    Helo(Text<'a>),
    /// MAIL FROM: the path with its angle brackets, then the parameters.
    Mail(Vec<Text<'a>>),
    /// RCPT TO: the path with its angle brackets, then the parameters.
    Recipient(Vec<Text<'a>>),
    /// DATA.
    Data,
    /// One header field; folds are LF and white space.
    Header {
        /// Its name.
        name: Text<'a>,
        /// Its value, with a leading space only where that was negotiated.
        value: Text<'a>,
    },
    /// The header section is over.
    EndOfHeaders,
    /// A piece of the body, at most [`super::DATA_OCTETS_MAX`].
    Body(Cow<'a, [u8]>),
    /// The message is whole; a last piece of its body may come along.
    EndOfMessage(Cow<'a, [u8]>),
    /// The transaction is given up.
    Abort,
    /// The session is over, and the connection.
    Quit,
    /// The session is over; another one follows on the same connection.
    QuitNewConnection,
    /// A command we do not know.
    Unknown(Text<'a>),
}

impl<'a> Command<'a> {
    /// Appends it as a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Command::Negotiate(offer) => put_frame(out, b'O', |out| offer.put(out)),
            Command::Macros(stage, pairs) => put_frame(out, b'D', |out| {
                out.push(stage.code());
                for (name, value) in pairs {
                    put_text(out, name);
                    put_text(out, value);
                }
            }),
            Command::Connect { host, peer } => put_frame(out, b'C', |out| {
                put_text(out, host);
                put_peer(out, peer);
            }),
            Command::Helo(name) => put_frame(out, b'H', |out| put_text(out, name)),
            Command::Mail(texts) => put_frame(out, b'M', |out| texts.iter().for_each(|t| put_text(out, t))),
            Command::Recipient(texts) => put_frame(out, b'R', |out| texts.iter().for_each(|t| put_text(out, t))),
            Command::Data => put_frame(out, b'T', |_| ()),
            Command::Header { name, value } => put_frame(out, b'L', |out| {
                put_text(out, name);
                put_text(out, value);
            }),
            Command::EndOfHeaders => put_frame(out, b'N', |_| ()),
            Command::Body(octets) => put_frame(out, b'B', |out| out.extend_from_slice(octets)),
            Command::EndOfMessage(octets) => put_frame(out, b'E', |out| out.extend_from_slice(octets)),
            Command::Abort => put_frame(out, b'A', |_| ()),
            Command::Quit => put_frame(out, b'Q', |_| ()),
            Command::QuitNewConnection => put_frame(out, b'K', |_| ()),
            Command::Unknown(text) => put_frame(out, b'U', |out| put_text(out, text)),
        }
    }

    /// Reads a frame.
    pub fn parse(frame: Frame<'a>) -> Result<Command<'a>, MilterError> {
        let mut data = Data::of(frame);
        let command = match frame.code {
            b'O' => Command::Negotiate(Negotiation::read(&mut data)?),
            b'D' => {
                let stage = Stage::of_code(data.octet()?).ok_or(MilterError::Value(frame.code))?;
                let mut pairs = Vec::new();
                while !data.rest.is_empty() {
                    pairs.push((data.text()?, data.text()?));
                }
                Command::Macros(stage, pairs)
            }
            b'C' => Command::Connect { host: data.text()?, peer: read_peer(&mut data)? },
            b'H' => Command::Helo(data.text()?),
            b'M' | b'R' => {
                let texts = data.texts()?;
                if texts.is_empty() {
                    return Err(MilterError::Short(frame.code));
                }
                if frame.code == b'M' { Command::Mail(texts) } else { Command::Recipient(texts) }
            }
            b'T' => Command::Data,
            b'L' => Command::Header { name: data.text()?, value: data.text()? },
            b'N' => Command::EndOfHeaders,
            b'B' => Command::Body(Cow::Borrowed(data.all())),
            b'E' => Command::EndOfMessage(Cow::Borrowed(data.all())),
            b'A' => Command::Abort,
            b'Q' => Command::Quit,
            b'K' => Command::QuitNewConnection,
            b'U' => Command::Unknown(data.text()?),
            other => return Err(MilterError::Unknown(other)),
        };
        data.end()?;
        Ok(command)
    }
}

fn put_peer(out: &mut Vec<u8>, peer: &Peer<'_>) {
    match peer {
        Peer::Unknown => out.push(b'U'),
        Peer::Local(path) => {
            out.extend_from_slice(b"L\0\0");
            put_text(out, path);
        }
        Peer::Internet(address) => {
            out.push(if address.is_ipv4() { b'4' } else { b'6' });
            out.extend_from_slice(&address.port().to_be_bytes());
            put_text(out, address.ip().to_string().as_bytes());
        }
    }
}

fn read_peer<'a>(data: &mut Data<'a>) -> Result<Peer<'a>, MilterError> {
    let family = data.octet()?;
    if family == b'U' {
        return Ok(Peer::Unknown);
    }
    let port = data.u16()?;
    let address = data.text()?;
    let text = || std::str::from_utf8(&address).ok();
    let ip = match family {
        b'L' => return Ok(Peer::Local(address)),
        b'4' => text().and_then(|t| t.parse::<Ipv4Addr>().ok()).map(IpAddr::V4),
        // Sendmail writes the tag of an address literal in front, Postfix does not.
        b'6' => text().and_then(|t| t.strip_prefix("IPv6:").unwrap_or(t).parse::<Ipv6Addr>().ok()).map(IpAddr::V6),
        _ => None,
    };
    let ip = ip.ok_or(MilterError::Value(data.code))?;
    Ok(Peer::Internet(SocketAddr::new(ip, port)))
}
