//! Where a helper listens, and connecting to it.
//!
//! How it fails: an address that is none is refused with the forms there are; connecting fails with the system's word.

use crate::base::knob::{KnobType, Raw};
use std::fmt;
use std::io;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A socket of this machine, or a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperAddress {
    /// `unix:/path`
    Unix(PathBuf),
    /// `inet:host:port`
    Inet {
        /// A name, or an address without brackets.
        host: String,
        /// The port, not zero.
        port: u16,
    },
}

impl fmt::Display for HelperAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HelperAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            HelperAddress::Inet { host, port } if host.contains(':') => write!(f, "inet:[{host}]:{port}"),
            HelperAddress::Inet { host, port } => write!(f, "inet:{host}:{port}"),
        }
    }
}

impl HelperAddress {
    /// Reads the forms of Sendmail (`inet:port@host`, `unix:path`, `local:path`), Postfix (`inet:host:port`,
    /// `unix:path`) and a URL without a path.
    fn read(text: &str) -> Option<HelperAddress> {
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.strip_prefix("local:")) {
            // Relative to what: the file, the process? Nobody would guess alike.
            return path.starts_with('/').then(|| HelperAddress::Unix(path.into()));
        }
        let text = match text.strip_prefix("http://") {
            Some(rest) => rest.strip_suffix('/').unwrap_or(rest),
            None => text.strip_prefix("inet:").or_else(|| text.strip_prefix("inet6:")).unwrap_or(text),
        };
        let (host, port) = match text.split_once('@') {
            Some((port, host)) => (host, port),
            None => text.rsplit_once(':')?,
        };
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let literal = host.strip_prefix('[').map(|rest| rest.strip_suffix(']').unwrap_or("?"));
        let host = match literal {
            Some(literal) => literal.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
            None => crate::wire::address::parse_domain(host).ok()?.as_str().to_owned(),
        };
        Some(HelperAddress::Inet { host, port })
    }

    /// Connects; the caller limits the time. Names are resolved by the system.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            HelperAddress::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            HelperAddress::Inet { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // Questions are small and answered one by one.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl KnobType for HelperAddress {
    const KIND: &'static str = "address";
    fn parse(raw: &Raw) -> Result<Self, String> {
        let what = "an absolute path such as \"unix:/run/helper.sock\", or a host with port such as \
                    \"inet:127.0.0.1:11332\", \"inet:[::1]:11332\" or \"inet:11332@localhost\"";
        match raw {
            Raw::Text(text) => HelperAddress::read(text).ok_or_else(|| format!("expected {what}, found {text:?}")),
            other => Err(format!("expected {what}, found {}", other.kind())),
        }
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
    fn schema() -> String {
        r#"{"type":"string"}"#.into()
    }
    fn paths(&self) -> Vec<PathBuf> {
        match self {
            HelperAddress::Unix(path) => vec![path.clone()],
            HelperAddress::Inet { .. } => Vec::new(),
        }
    }
}

/// A connection to a helper.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address() {
        for (text, shown) in [
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
            ("local:/run/x", "unix:/run/x"),
            ("inet:127.0.0.1:11332", "inet:127.0.0.1:11332"),
            ("inet:11332@localhost", "inet:localhost:11332"),
            ("inet6:8891@[::1]", "inet:[::1]:8891"),
            ("127.0.0.1:10023", "inet:127.0.0.1:10023"),
            ("http://spam.example.org:11333/", "inet:spam.example.org:11333"),
            ("inet:[2001:db8::1]:1", "inet:[2001:db8::1]:1"),
        ] {
            let address = HelperAddress::parse(&Raw::Text(text.into())).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(HelperAddress::parse(&Raw::Text(shown.into())), Ok(address), "{shown}");
        }
        for text in
            ["", "unix:", "unix:relative.sock", "inet:11332", "inet:localhost:0", "inet:[::1:25", "a b:1", "inet:1@"]
        {
            let refused = HelperAddress::parse(&Raw::Text(text.into())).unwrap_err();
            assert!(refused.contains("inet:127.0.0.1:11332") && refused.contains(&format!("{text:?}")), "{refused}");
        }
    }
}
