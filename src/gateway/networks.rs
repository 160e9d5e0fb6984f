//! [`Networks`]: a setting that is a list of networks, with words for those everybody means.
//!
//! How it fails: reading says which entry is not a network and what was expected.

use crate::base::knob::{KnobType, Raw};
use ipnet::IpNet;
use std::net::IpAddr;

/// Networks of addresses, as `["loopback", "192.0.2.0/24", "2001:db8::1"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    nets: Vec<IpNet>,
    words: Vec<String>,
}

/// The words and what they stand for.
const WORDS: &[(&str, &[&str])] = &[
    ("loopback", &["127.0.0.0/8", "::1/128"]),
    // RFC 1918, RFC 6598 is left out on purpose (shared by strangers), RFC 4193, RFC 3927 and RFC 4291 §2.5.6.
    ("private", &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"]),
];

impl Networks {
    /// The loopback networks.
    pub fn loopback() -> Networks {
        let mut networks = Networks::default();
        networks.add("loopback");
        networks
    }

    /// The networks, words resolved.
    pub fn nets(&self) -> &[IpNet] {
        &self.nets
    }

    /// Whether `address` is in one of them. An IPv4 address mapped into IPv6 counts as the IPv4 address it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// Adds a word or a network; whether it was one.
    fn add(&mut self, text: &str) -> bool {
        let nets: Vec<IpNet> = match WORDS.iter().find(|(word, _)| *word == text) {
            Some((_, nets)) => nets.iter().filter_map(|net| net.parse().ok()).collect(),
            None => match IpNet::parse(&Raw::Text(text.into())) {
                Ok(net) => vec![net.trunc()],
                Err(_) => return false,
            },
        };
        self.nets.extend(nets);
        self.words.push(text.into());
        true
    }
}

impl KnobType for Networks {
    const KIND: &'static str = "networks";

    fn parse(raw: &Raw) -> Result<Self, String> {
        let single = std::slice::from_ref(raw);
        let items = if let Raw::List(items) = raw { items } else { single };
        let mut networks = Networks::default();
        for item in items {
            let what =
                "a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", an address, \"loopback\" or \"private\"";
            match item {
                Raw::Text(text) if networks.add(text) => {}
                Raw::Text(text) => return Err(format!("expected {what}, found {text:?}")),
                other => return Err(format!("expected {what}, found {}", other.kind())),
            }
        }
        Ok(networks)
    }

    fn show(&self) -> String {
        format!("[{}]", self.words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", "))
    }

    fn schema() -> String {
        r#"{"type":["array","string"],"items":{"type":"string"}}"#.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_networks_and_mapped_addresses() {
        let raw = Raw::List(vec![Raw::Text("loopback".into()), Raw::Text("192.0.2.77/24".into())]);
        let networks = Networks::parse(&raw).unwrap();
        for inside in ["127.9.9.9", "::1", "192.0.2.1", "::ffff:192.0.2.1"] {
            assert!(networks.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["192.0.3.1", "::2", "10.0.0.1"] {
            assert!(!networks.contains(outside.parse().unwrap()), "{outside}");
        }
        assert_eq!(networks.show(), r#"["loopback", "192.0.2.77/24"]"#);
        assert!(Networks::parse(&Raw::Text("lopback".into())).unwrap_err().contains("found \"lopback\""));
        assert!(Networks::parse(&Raw::Integer(3)).is_err());
        assert!(Networks::default().is_empty() && !Networks::loopback().is_empty());
    }
}
