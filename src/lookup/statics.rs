//! Names with fixed answers from the configuration, asked before any name server: for hosts without DNS, and for tests.
//!
//! A name in the table is answered from the table alone: what it does not list, it does not have. How it fails: entries
//! that cannot be read are refused with what was expected.

use super::question::{Answer, ClientName, Found, Key, Miss, MxRecord, Source, Trouble, is_host_name};
use crate::base::address::Domain;
use crate::base::knob::{KnobType, Raw};
use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Static answers do not age; the caller may keep them as long as any.
const STATIC_TTL: Duration = Duration::from_secs(86_400);

/// A name and its addresses, written `NAME=ADDR[,ADDR…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticHost {
    name: String,
    addresses: Vec<IpAddr>,
}

impl FromStr for StaticHost {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected NAME=ADDRESS such as \"mx1.example.test=127.0.0.1\", found {text:?}");
        let (name, addresses) = text.split_once('=').ok_or_else(wrong)?;
        let addresses =
            addresses.split(',').map(|a| a.trim().parse()).collect::<Result<Vec<IpAddr>, _>>().map_err(|_| wrong())?;
        Ok(StaticHost { name: host_name(name.trim()).ok_or_else(wrong)?, addresses })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fixed {
    Address(String, IpAddr),
    Mx(String, MxRecord),
    Ptr(IpAddr, String),
    Txt(String, String),
    NoName(String),
    Failing(String),
}

/// A fixed record, written `NAME TYPE VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRecord(Fixed);

impl FromStr for StaticRecord {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected \"NAME TYPE VALUE\" with TYPE one of A, AAAA, MX, PTR, TXT, NXDOMAIN, SERVFAIL (such as \
                 \"example.test MX 10 mx1.example.test\"), found {text:?}"
            )
        };
        let (owner, rest) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        let rest = rest.trim();
        let (kind, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        Fixed::read(owner, kind, value.trim()).map(StaticRecord).ok_or_else(wrong)
    }
}

impl Fixed {
    fn read(owner: &str, kind: &str, value: &str) -> Option<Fixed> {
        let name = || host_name(owner);
        Some(match kind.to_ascii_uppercase().as_str() {
            "A" => Fixed::Address(name()?, IpAddr::V4(value.parse().ok()?)),
            "AAAA" => Fixed::Address(name()?, IpAddr::V6(value.parse().ok()?)),
            "MX" => {
                let (preference, host) = value.split_once(char::is_whitespace)?;
                let exchange = match host.trim() {
                    "." => None, // RFC 7505
                    host => Some(Domain::from_checked(&host_name(host)?)),
                };
                Fixed::Mx(name()?, MxRecord { preference: preference.parse().ok()?, exchange })
            }
            "PTR" => Fixed::Ptr(owner.parse().ok()?, host_name(value)?),
            "TXT" if !value.is_empty() => Fixed::Txt(name()?, value.trim_matches('"').to_owned()),
            "NXDOMAIN" if value.is_empty() => Fixed::NoName(name()?),
            "SERVFAIL" if value.is_empty() => Fixed::Failing(name()?),
            _ => return None,
        })
    }
}

/// In lower-case A-labels, without a final dot.
fn host_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let name = if text.is_ascii() { text.to_ascii_lowercase() } else { idna::domain_to_ascii(text).ok()? };
    is_host_name(&name).then_some(name)
}

macro_rules! text_knob {
    ($($t:ty),*) => {$(
        impl KnobType for $t {
            const KIND: &'static str = "string";
            fn parse(raw: &Raw) -> Result<Self, String> {
                match raw {
                    Raw::Text(t) => t.parse(),
                    other => Err(format!("expected a string, found {}", other.kind())),
                }
            }
            fn show(&self) -> String {
                format!("{:?}", self.to_string())
            }
            fn schema() -> String {
                r#"{"type":"string"}"#.into()
            }
        }
    )*};
}
text_knob!(StaticHost, StaticRecord);

impl std::fmt::Display for StaticHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        write!(f, "{}={}", self.name, addresses.join(","))
    }
}

impl std::fmt::Display for StaticRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Fixed::Address(name, IpAddr::V4(a)) => write!(f, "{name} A {a}"),
            Fixed::Address(name, IpAddr::V6(a)) => write!(f, "{name} AAAA {a}"),
            Fixed::Mx(name, mx) => {
                write!(f, "{name} MX {} {}", mx.preference, mx.exchange.as_ref().map_or(".", Domain::as_str))
            }
            Fixed::Ptr(ip, name) => write!(f, "{ip} PTR {name}"),
            Fixed::Txt(name, text) => write!(f, "{name} TXT {text}"),
            Fixed::NoName(name) => write!(f, "{name} NXDOMAIN"),
            Fixed::Failing(name) => write!(f, "{name} SERVFAIL"),
        }
    }
}

/// What is recorded under one name.
#[derive(Clone, Debug, Default)]
struct Name {
    addresses: Vec<IpAddr>,
    mx: Vec<MxRecord>,
    texts: Vec<Box<[u8]>>,
    forced: Option<Miss>,
}

/// The table of fixed answers.
#[derive(Clone, Debug, Default)]
pub struct Statics {
    names: HashMap<String, Name>,
    pointers: HashMap<IpAddr, Vec<Domain>>,
}

impl Statics {
    /// The table from the configuration and the text of a hosts file (`""` when there is none).
    pub fn new(hosts: &[StaticHost], records: &[StaticRecord], hosts_file: &str) -> Result<Statics, String> {
        let mut table = Statics::default();
        records.iter().for_each(|r| table.add_record(&r.0));
        hosts.iter().for_each(|h| table.add_host(&h.name, &h.addresses));
        for (i, line) in hosts_file.lines().enumerate() {
            table.add_hosts_line(line).map_err(|e| format!("line {}: {e}", i + 1))?;
        }
        table.names.values_mut().for_each(|n| n.addresses.sort_by_key(IpAddr::is_ipv4)); // stable: IPv6 first
        Ok(table)
    }

    fn name(&mut self, name: &str) -> &mut Name {
        self.names.entry(name.to_owned()).or_default()
    }

    fn add_record(&mut self, record: &Fixed) {
        match record {
            Fixed::Address(name, ip) => push_new(&mut self.name(name).addresses, *ip),
            Fixed::Mx(name, mx) => self.name(name).mx.push(mx.clone()),
            Fixed::Ptr(ip, name) => {
                push_new(self.pointers.entry(ip.to_canonical()).or_default(), Domain::from_checked(name));
            }
            Fixed::Txt(name, text) => self.name(name).texts.push(text.as_bytes().into()),
            Fixed::NoName(name) => self.name(name).forced = Some(Miss::NoName),
            Fixed::Failing(name) => self.name(name).forced = Some(Miss::Temporary(Trouble::Response(2))),
        }
    }

    fn add_host(&mut self, name: &str, addresses: &[IpAddr]) {
        for ip in addresses {
            push_new(&mut self.name(name).addresses, *ip);
            push_new(self.pointers.entry(ip.to_canonical()).or_default(), Domain::from_checked(name));
        }
    }

    /// One line of hosts(5): address, names, comment.
    fn add_hosts_line(&mut self, line: &str) -> Result<(), String> {
        let text = line.split('#').next().unwrap_or_default();
        let mut words = text.split_whitespace();
        let Some(address) = words.next() else { return Ok(()) };
        let ip = address.parse::<IpAddr>().map_err(|_| format!("expected an address, found {address:?}"))?;
        for word in words {
            let name = host_name(word).ok_or_else(|| format!("expected a host name, found {word:?}"))?;
            self.add_host(&name, &[ip]);
        }
        Ok(())
    }

    /// The answer, when the table knows the name or the address.
    pub(crate) fn answer(&self, key: &Key) -> Option<Answer> {
        if self.names.is_empty() && self.pointers.is_empty() {
            return None;
        }
        let result = match key {
            Key::Mx(n) => self.records(n, |n| non_empty(&n.mx).map(Found::Mx)),
            Key::Addresses(n) => self.records(n, |n| non_empty(&n.addresses).map(Found::Addresses)),
            Key::A(n) => self.records(n, |n| family(&n.addresses, IpAddr::is_ipv4)),
            Key::Aaaa(n) => self.records(n, |n| family(&n.addresses, IpAddr::is_ipv6)),
            Key::Txt(n) => self.records(n, |n| non_empty(&n.texts).map(Found::Texts)),
            Key::Ptr(ip) => self.pointers.get(ip).map(|names| Ok(Found::Names(names.as_slice().into()))),
            Key::ClientName(ip) => self.client_name(*ip),
        }?;
        Some(Answer { result, ttl: STATIC_TTL, source: Source::Static })
    }

    fn records(&self, name: &str, pick: impl Fn(&Name) -> Option<Found>) -> Option<Result<Found, Miss>> {
        let entry = self.names.get(name)?;
        Some(match entry.forced {
            Some(miss) => Err(miss),
            None => pick(entry).ok_or(Miss::NoRecords),
        })
    }

    /// Only when every name of the pointer is in the table too; otherwise the DNS confirms.
    fn client_name(&self, ip: IpAddr) -> Option<Result<Found, Miss>> {
        let claimed = self.pointers.get(&ip)?;
        let mut confirmed = None;
        for name in claimed {
            let entry = self.names.get(name.as_str())?;
            if confirmed.is_none() && entry.addresses.contains(&ip) {
                confirmed = Some(name.clone());
            }
        }
        Some(Ok(Found::Client(ClientName { confirmed, claimed: claimed.as_slice().into() })))
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

fn family(addresses: &[IpAddr], of: fn(&IpAddr) -> bool) -> Option<Found> {
    let those: Vec<IpAddr> = addresses.iter().copied().filter(of).collect();
    non_empty(&those).map(Found::Addresses)
}

fn non_empty<T: Clone>(list: &[T]) -> Option<Arc<[T]>> {
    (!list.is_empty()).then(|| list.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(hosts: &[&str], records: &[&str], file: &str) -> Statics {
        let hosts: Vec<StaticHost> = hosts.iter().map(|h| h.parse().unwrap()).collect();
        let records: Vec<StaticRecord> = records.iter().map(|r| r.parse().unwrap()).collect();
        Statics::new(&hosts, &records, file).unwrap()
    }
    fn result(t: &Statics, key: Key) -> Option<Result<Found, Miss>> {
        t.answer(&key).map(|a| a.result)
    }

    #[test]
    fn hosts_resolve_forth_and_back() {
        let t = table(&["MX1.example.test=127.0.0.1,::1"], &[], "# c\n127.0.0.2 a.test b.test # d\n");
        assert_eq!(
            result(&t, Key::Addresses("mx1.example.test".into())),
            Some(Ok(Found::Addresses(["::1".parse().unwrap(), [127, 0, 0, 1].into()].into())))
        );
        assert_eq!(result(&t, Key::Mx("mx1.example.test".into())), Some(Err(Miss::NoRecords)));
        assert_eq!(result(&t, Key::Mx("other.test".into())), None);
        let Some(Ok(Found::Client(c))) = result(&t, Key::ClientName([127, 0, 0, 2].into())) else { panic!() };
        assert_eq!(c.confirmed.unwrap().as_str(), "a.test");
        assert_eq!(c.claimed.len(), 2);
    }

    #[test]
    fn records_of_every_kind() {
        let t = table(
            &[],
            &[
                "example.test MX 10 mx1.example.test.",
                "example.test mx 20 mx2.example.test",
                "example.test TXT \"v=spf1 -all\"",
                "null.test MX 0 .",
                "gone.test NXDOMAIN",
                "sick.test SERVFAIL",
                "192.0.2.1 PTR liar.test",
                "liar.test A 192.0.2.99",
            ],
            "",
        );
        let Some(Ok(Found::Mx(mx))) = result(&t, Key::Mx("example.test".into())) else { panic!() };
        assert_eq!(mx.len(), 2);
        assert_eq!(mx[0].exchange.as_ref().unwrap().as_str(), "mx1.example.test");
        assert_eq!(
            result(&t, Key::Mx("null.test".into())),
            Some(Ok(Found::Mx([MxRecord { preference: 0, exchange: None }].into())))
        );
        assert_eq!(
            result(&t, Key::Txt("example.test".into())),
            Some(Ok(Found::Texts([b"v=spf1 -all".as_slice().into()].into())))
        );
        assert_eq!(result(&t, Key::Addresses("gone.test".into())), Some(Err(Miss::NoName)));
        assert!(matches!(result(&t, Key::Mx("sick.test".into())), Some(Err(Miss::Temporary(Trouble::Response(2))))));
        let Some(Ok(Found::Client(c))) = result(&t, Key::ClientName([192, 0, 2, 1].into())) else { panic!() };
        assert_eq!((c.confirmed, c.claimed.len()), (None, 1));
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for bad in ["mx1.test", "mx1.test=", "=127.0.0.1", "a b=127.0.0.1", "a=127.0.0.256", "a..b=127.0.0.1"] {
            assert!(bad.parse::<StaticHost>().unwrap_err().contains("expected NAME=ADDRESS"), "{bad}");
        }
        for bad in ["x.test", "x.test MX mx", "x.test A ::1", "x.test PTR y.test", "x.test SRV 1", "x.test MX 70000 y"]
        {
            assert!(bad.parse::<StaticRecord>().unwrap_err().contains("expected \"NAME TYPE VALUE\""), "{bad}");
        }
        assert!(
            Statics::new(&[], &[], "\nlocalhost 127.0.0.1").unwrap_err().starts_with("line 2: expected an address")
        );
    }

    #[test]
    fn entries_are_shown_as_they_are_read() {
        for text in ["a.test MX 10 b.test", "a.test MX 0 .", "a.test A 127.0.0.1", "a.test NXDOMAIN", "a.test TXT x y"]
        {
            assert_eq!(text.parse::<StaticRecord>().unwrap().to_string(), text);
        }
        assert_eq!("a.test=::1,127.0.0.1".parse::<StaticHost>().unwrap().to_string(), "a.test=::1,127.0.0.1");
    }
}
