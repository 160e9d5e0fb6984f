//! The PROXY protocol header, versions 1 and 2 (HAProxy's proxy-protocol.txt), over any split of the input.
//!
//! Only listed peers are asked for it; who they are is the listener's question. How it fails: [`Parsed::Invalid`] names
//! the offence, and the connection must be closed without a word to the client behind the proxy.

use memchr::memchr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Octets of a version 1 header at most, CRLF included (§2.1).
pub const V1_OCTETS_MAX: usize = 107;
/// Octets of a version 2 header at most: addresses and what well-behaved proxies add (names, TLS facts). The format
/// allows 65,551.
pub const V2_OCTETS_MAX: usize = 4096;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_OCTETS: usize = 16;

/// The two ends of the connection the proxy accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// What came of the octets so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The header is not whole yet.
    NeedMore,
    /// The header is whole.
    Done {
        /// Octets of the header.
        consumed: usize,
        /// `None` for a health check of the proxy itself (LOCAL) and for families we do not serve (UNKNOWN, sockets in
        /// the file system): the connection's own addresses stay in force (§2.1, §2.2).
        endpoints: Option<Endpoints>,
    },
    /// It is no header.
    Invalid(ProxyError),
}

/// Why it is no header. The proxy is set up wrongly, or the peer is no proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// Neither signature.
    Signature,
    /// Longer than the limit of its version.
    TooLong,
    /// An address or port that is none, or a length that does not hold them.
    Address,
    /// A version, command or family outside the protocol.
    Command,
}

impl std::fmt::Display for ProxyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ProxyError::Signature => "expected a PROXY header",
            ProxyError::TooLong => "the PROXY header is too long",
            ProxyError::Address => "the PROXY header has a malformed address",
            ProxyError::Command => "the PROXY header has an unknown version, command or family",
        })
    }
}

/// Reads the header at the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed {
    const V1: &[u8] = b"PROXY ";
    let is_prefix = |whole: &[u8]| whole.starts_with(&bytes[..bytes.len().min(whole.len())]);
    if bytes.starts_with(V1) {
        return parse_v1(bytes);
    }
    if bytes.starts_with(V2_SIGNATURE) {
        return parse_v2(bytes);
    }
    if is_prefix(V1) || is_prefix(V2_SIGNATURE) { Parsed::NeedMore } else { Parsed::Invalid(ProxyError::Signature) }
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let window = &bytes[..bytes.len().min(V1_OCTETS_MAX)];
    let Some(lf) = memchr(b'\n', window) else {
        return if bytes.len() < V1_OCTETS_MAX { Parsed::NeedMore } else { Parsed::Invalid(ProxyError::TooLong) };
    };
    let line = window[..lf].strip_suffix(b"\r").and_then(|l| std::str::from_utf8(l).ok());
    let Some(line) = line else { return Parsed::Invalid(ProxyError::Signature) };
    let words: Vec<&str> = line.split(' ').collect();
    let endpoints = match words.as_slice() {
        // §2.1: everything after UNKNOWN must be ignored.
        [_, "UNKNOWN", ..] => return Parsed::Done { consumed: lf + 1, endpoints: None },
        [_, "TCP4", rest @ ..] => v1_endpoints(rest, |t| t.parse::<Ipv4Addr>().ok().map(IpAddr::from)),
        [_, "TCP6", rest @ ..] => v1_endpoints(rest, |t| t.parse::<Ipv6Addr>().ok().map(IpAddr::from)),
        _ => return Parsed::Invalid(ProxyError::Command),
    };
    match endpoints {
        Some(e) => Parsed::Done { consumed: lf + 1, endpoints: Some(e) },
        None => Parsed::Invalid(ProxyError::Address),
    }
}

fn v1_endpoints(words: &[&str], ip: impl Fn(&str) -> Option<IpAddr>) -> Option<Endpoints> {
    let [source, destination, source_port, destination_port] = words else { return None };
    // §2.1: decimal without leading zeroes.
    let port = |t: &str| t.parse::<u16>().ok().filter(|p| p.to_string() == t);
    Some(Endpoints {
        source: SocketAddr::new(ip(source)?, port(source_port)?),
        destination: SocketAddr::new(ip(destination)?, port(destination_port)?),
    })
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some(&[version_command, family, high, low]) = bytes.get(12..V2_FIXED_OCTETS) else { return Parsed::NeedMore };
    let consumed = V2_FIXED_OCTETS + usize::from(u16::from_be_bytes([high, low]));
    if version_command >> 4 != 2 || version_command & 15 > 1 || family >> 4 > 3 || family & 15 > 2 {
        return Parsed::Invalid(ProxyError::Command);
    }
    if consumed > V2_OCTETS_MAX {
        return Parsed::Invalid(ProxyError::TooLong);
    }
    let Some(rest) = bytes.get(V2_FIXED_OCTETS..consumed) else { return Parsed::NeedMore };
    // Command 0 is LOCAL; family 1 is IPv4, 2 is IPv6; transport 1 is a stream (§2.2).
    let octets = match (version_command & 15, family) {
        (1, 0x11) => 4,
        (1, 0x21) => 16,
        _ => return Parsed::Done { consumed, endpoints: None },
    };
    match v2_endpoints(rest, octets) {
        Some(e) => Parsed::Done { consumed, endpoints: Some(e) },
        None => Parsed::Invalid(ProxyError::Address),
    }
}

fn v2_endpoints(rest: &[u8], octets: usize) -> Option<Endpoints> {
    let ip = |at: usize| match rest.get(at..at + octets)? {
        o if octets == 4 => <[u8; 4]>::try_from(o).ok().map(IpAddr::from),
        o => <[u8; 16]>::try_from(o).ok().map(IpAddr::from),
    };
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    Some(Endpoints {
        source: SocketAddr::new(ip(0)?, port(2 * octets)?),
        destination: SocketAddr::new(ip(octets)?, port(2 * octets + 2)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn done(source: &str, destination: &str, consumed: usize) -> Parsed {
        let endpoints = Endpoints { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
        Parsed::Done { consumed, endpoints: Some(endpoints) }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[0x20 | command, family][..], &len, rest].concat()
    }

    /// Every proper prefix needs more, and what follows the header does not matter.
    fn check(header: &[u8], expected: Parsed) {
        for cut in 0..header.len() {
            assert_eq!(parse(&header[..cut]), Parsed::NeedMore, "cut at {cut}");
        }
        assert_eq!(parse(&[header, b"EHLO x\r\n"].concat()), expected);
    }

    #[test]
    fn version_1() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 25\r\n";
        check(line, done("192.0.2.1:40000", "198.51.100.2:25", line.len()));
        let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n";
        check(line, done("[2001:db8::1]:1", "[2001:db8::2]:25", line.len()));
        let line = b"PROXY UNKNOWN whatever\r\n";
        check(line, Parsed::Done { consumed: line.len(), endpoints: None });
        for (bad, why) in [
            ("EHLO x\r\n".to_owned(), ProxyError::Signature),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 40000 25\n".to_owned(), ProxyError::Signature),
            ("PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n".to_owned(), ProxyError::Command),
            ("PROXY TCP4 2001:db8::1 198.51.100.2 40000 25\r\n".to_owned(), ProxyError::Address),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 040 25\r\n".to_owned(), ProxyError::Address),
            ("PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n".to_owned(), ProxyError::Address),
            (format!("PROXY UNKNOWN {}", "x".repeat(107)), ProxyError::TooLong),
        ] {
            assert_eq!(parse(bad.as_bytes()), Parsed::Invalid(why), "{bad:?}");
        }
    }

    #[test]
    fn version_2() {
        let four = [192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 0, 25];
        let header = v2(1, 0x11, &[&four[..], &[4, 0, 1, 9]].concat()); // with a TLV
        check(&header, done("192.0.2.1:40000", "198.51.100.2:25", header.len()));
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 7, 25);
        check(&v2(1, 0x21, &six), done("[::1]:7", "[::2]:25", 52));
        check(&v2(0, 0, b""), Parsed::Done { consumed: 16, endpoints: None });
        check(&v2(1, 0x31, &[0; 216]), Parsed::Done { consumed: 232, endpoints: None });
        assert_eq!(parse(&v2(1, 0x11, &four[..11])), Parsed::Invalid(ProxyError::Address));
        assert_eq!(parse(&v2(2, 0x11, &four)), Parsed::Invalid(ProxyError::Command));
        assert_eq!(parse(&v2(1, 0x41, &four)), Parsed::Invalid(ProxyError::Command));
        assert_eq!(parse(&v2(1, 0x11, &[0; 5000])), Parsed::Invalid(ProxyError::TooLong));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>, command: u8, family: u8) {
            let _ = parse(&bytes);
            let mut header = v2(0, 0, &bytes);
            (header[12], header[13]) = (command, family);
            let _ = parse(&header);
        }
    }
}
