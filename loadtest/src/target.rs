//! Whom the load may hit: loopback, or a host that was named with `--i-own`.
//!
//! How it fails: any other target is refused with what to do about it, before its name is looked up anywhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// The address of `target` (`HOST:PORT`), when it is loopback or its host is among `owned`.
pub fn resolve(target: &str, owned: &[String]) -> Result<SocketAddr, String> {
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host).trim_matches(['[', ']']);
    let refused =
        || format!("{host} is not loopback; if the machine is yours and may be loaded, say so with --i-own {host}");
    let is_owned = owned.iter().any(|o| o.eq_ignore_ascii_case(host));
    // Only names that may be loaded are looked up: the network is asked nothing else.
    if !is_owned && host.parse::<IpAddr>().is_err() && !host.eq_ignore_ascii_case("localhost") && target.contains(':') {
        return Err(refused());
    }
    let address = target
        .to_socket_addrs()
        .map_err(|e| format!("target {target:?}: {e} (expected HOST:PORT)"))?
        .next()
        .ok_or_else(|| format!("target {target:?} has no address"))?;
    if address.ip().is_loopback() || is_owned { Ok(address) } else { Err(refused()) }
}

/// Local addresses that connections come from, in turn: all of an IPv4 network inside 127.0.0.0/8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    first: u32,
    count: u32,
}

impl std::str::FromStr for Sources {
    type Err = String;
    /// Reads `127.1.0.0/16`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a network inside 127.0.0.0/8 such as \"127.1.0.0/16\", found {text:?}");
        let (ip, bits) = text.split_once('/').unwrap_or((text, "32"));
        let ip: Ipv4Addr = ip.parse().map_err(|_| wrong())?;
        let bits: u32 = bits.parse().map_err(|_| wrong())?;
        if !ip.is_loopback() || !(8..=32).contains(&bits) {
            return Err(wrong());
        }
        let count = 1u32 << (32 - bits);
        let first = u32::from(ip) & !(count - 1);
        // The first and the last address of a /8 are no hosts; smaller networks are used whole.
        Ok(if bits == 8 { Sources { first: first + 1, count: count - 2 } } else { Sources { first, count } })
    }
}

impl Sources {
    /// The address for the `n`th connection.
    pub fn nth(&self, n: u64) -> IpAddr {
        // `count` fits in 32 bits, so the remainder does.
        IpAddr::V4(Ipv4Addr::from(self.first + (n % u64::from(self.count)) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_unless_owned() {
        assert!(resolve("127.0.0.1:25", &[]).is_ok());
        assert!(resolve("[::1]:25", &[]).is_ok());
        assert!(resolve("192.0.2.1:25", &[]).unwrap_err().contains("--i-own 192.0.2.1"));
        assert!(resolve("192.0.2.1:25", &["192.0.2.1".into()]).is_ok());
        assert!(resolve("192.0.2.1:25", &["192.0.2.2".into()]).is_err());
        assert!(resolve("localhost:25", &[]).is_ok());
        let unasked = resolve("mx.example.test:25", &[]).unwrap_err();
        assert!(unasked.contains("--i-own mx.example.test"), "{unasked}");
        assert!(resolve("127.0.0.1", &[]).unwrap_err().contains("HOST:PORT"));
    }

    #[test]
    fn sources_go_round() {
        let s: Sources = "127.1.0.0/30".parse().unwrap();
        assert_eq!([0, 3, 4].map(|n| s.nth(n).to_string()), ["127.1.0.0", "127.1.0.3", "127.1.0.0"]);
        let all: Sources = "127.0.0.0/8".parse().unwrap();
        assert_eq!(all.nth(0).to_string(), "127.0.0.1");
        for bad in ["10.0.0.0/8", "127.0.0.0/7", "x", "127.0.0.1/33"] {
            assert!(bad.parse::<Sources>().is_err(), "{bad}");
        }
    }
}
