//! The hosts of a domain in the order they are to be tried (RFC 5321 §5.1, RFC 7505), from records that somebody else
//! has looked up.
//!
//! How it fails: a domain that takes no mail, has no host, or leads back to us is the [`Reply`] to give; none of them
//! gets better by trying again soon, and the codes are those of the RFCs.

use crate::base::address::Domain;
use crate::wire::reply::{Enhanced, Reply};
use std::net::IpAddr;

/// An MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Lower is tried first.
    pub preference: u16,
    /// The host; `None` is the root, `.` (RFC 7505 §3).
    pub host: Option<Domain>,
}

/// What is known about the MX records of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MxAnswer<'a> {
    /// These.
    Records(&'a [Exchange]),
    /// The domain exists and has none.
    NoRecords,
    /// The domain does not exist.
    NoDomain,
}

/// Hosts to try, in order. `own` are our names; `shuffle` puts hosts of equal preference in random order.
pub fn hosts(
    domain: &Domain,
    answer: MxAnswer<'_>,
    own: &[Domain],
    hosts_max: usize,
    rng: &mut fastrand::Rng,
) -> Result<Vec<Domain>, Reply> {
    let records = match answer {
        MxAnswer::NoDomain => return Err(no_domain(domain)),
        // RFC 5321 §5.1: without MX records the domain is its own host, of preference 0.
        MxAnswer::NoRecords | MxAnswer::Records([]) if own.contains(domain) => return Err(looping(domain)),
        MxAnswer::NoRecords | MxAnswer::Records([]) => return Ok(vec![domain.clone()]),
        MxAnswer::Records(records) => records,
    };
    if let [Exchange { host: None, .. }] = records {
        return Err(takes_no_mail(domain)); // RFC 7505 §3: a null MX stands alone
    }
    let mut list: Vec<(u16, &Domain)> =
        records.iter().filter_map(|r| r.host.as_ref().map(|h| (r.preference, h))).collect();
    if list.is_empty() {
        return Err(takes_no_mail(domain));
    }
    // RFC 5321 §5.1: from our own preference on, nobody is nearer to the domain than we are.
    if let Some(ours) = list.iter().filter(|(_, h)| own.contains(h)).map(|(p, _)| *p).min() {
        list.retain(|(preference, _)| *preference < ours);
        if list.is_empty() {
            return Err(looping(domain));
        }
    }
    rng.shuffle(&mut list);
    list.sort_by_key(|(preference, _)| *preference); // stable: equal ones stay shuffled
    let mut ordered: Vec<Domain> = Vec::new();
    for (_, host) in list {
        if !ordered.contains(host) {
            ordered.push(host.clone());
        }
        if ordered.len() == hosts_max {
            break;
        }
    }
    Ok(ordered)
}

/// Addresses to try: those of each host in turn, in its order, at most `addresses_max`. Addresses no mail can go to
/// (unspecified, multicast, broadcast) are left out; `None` for a host stands for "could not be looked up".
pub fn addresses(per_host: &[Option<Vec<IpAddr>>], addresses_max: usize) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for address in per_host.iter().flatten().flatten() {
        if all.len() == addresses_max {
            break;
        }
        if is_usable(address) && !all.contains(address) {
            all.push(*address);
        }
    }
    all
}

/// The reply when no host of a domain has an address. `certain` is whether each was looked up in vain rather than not at
/// all.
pub fn no_addresses(domain: &Domain, certain: bool) -> Reply {
    if certain {
        // RFC 3463 X.4.4: unable to route.
        return Reply::new(550, Some(Enhanced(5, 4, 4)), format!("no mail host of {domain} has an address"));
    }
    Reply::new(451, Some(Enhanced(4, 4, 3)), format!("the mail hosts of {domain} cannot be looked up now"))
}

fn is_usable(address: &IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

fn no_domain(domain: &Domain) -> Reply {
    // RFC 3463 X.1.2: bad destination system address.
    Reply::new(550, Some(Enhanced(5, 1, 2)), format!("there is no domain {domain}"))
}

fn takes_no_mail(domain: &Domain) -> Reply {
    // RFC 7505 §4.1
    Reply::new(556, Some(Enhanced(5, 1, 10)), format!("{domain} takes no mail (null MX)"))
}

fn looping(domain: &Domain) -> Reply {
    // RFC 3463 X.4.6: routing loop detected.
    Reply::new(554, Some(Enhanced(5, 4, 6)), format!("mail for {domain} loops back to us: we are its best MX host"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::address::parse_domain;
    use std::collections::HashSet;

    fn d(text: &str) -> Domain {
        parse_domain(text).unwrap()
    }
    fn records(list: &[(u16, &str)]) -> Vec<Exchange> {
        let host = |h: &str| if h == "." { None } else { Some(d(h)) };
        list.iter().map(|(preference, h)| Exchange { preference: *preference, host: host(h) }).collect()
    }
    fn order(list: &[(u16, &str)], own: &[&str], seed: u64) -> Result<Vec<String>, String> {
        let own: Vec<Domain> = own.iter().map(|o| d(o)).collect();
        let mut rng = fastrand::Rng::with_seed(seed);
        hosts(&d("example.test"), MxAnswer::Records(&records(list)), &own, 3, &mut rng)
            .map(|hosts| hosts.iter().map(Domain::lower).collect())
            .map_err(|reply| reply.to_string())
    }

    #[test]
    fn by_preference_and_shuffled_within() {
        let list = [(20, "c.test"), (10, "a.test"), (10, "b.test"), (30, "d.test"), (10, "A.test")];
        let seen: HashSet<Vec<String>> = (0..50).map(|seed| order(&list, &[], seed).unwrap()).collect();
        let expected = [vec!["a.test", "b.test", "c.test"], vec!["b.test", "a.test", "c.test"]];
        assert_eq!(seen, expected.iter().map(|v| v.iter().map(|s| (*s).to_owned()).collect()).collect());
    }

    #[test]
    fn null_implicit_and_missing() {
        assert_eq!(order(&[(0, ".")], &[], 1).unwrap_err(), "556 5.1.10 example.test takes no mail (null MX)");
        assert_eq!(
            order(&[(0, "."), (5, "a.test")], &[], 1).unwrap(),
            ["a.test"],
            "a null MX beside others counts not"
        );
        assert_eq!(order(&[], &[], 1).unwrap(), ["example.test"]);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut ask = |answer, own: &[Domain]| hosts(&d("example.test"), answer, own, 3, &mut rng);
        assert_eq!(ask(MxAnswer::NoRecords, &[]).unwrap(), [d("example.test")]);
        assert_eq!(ask(MxAnswer::NoRecords, &[d("EXAMPLE.test")]).unwrap_err().code, 554);
        assert_eq!(ask(MxAnswer::NoDomain, &[]).unwrap_err().enhanced, Some(Enhanced(5, 1, 2)));
    }

    #[test]
    fn our_own_name_cuts_the_list() {
        let list = [(10, "a.test"), (20, "gate.test"), (20, "b.test"), (30, "c.test")];
        assert_eq!(order(&list, &["Gate.test"], 1).unwrap(), ["a.test"]);
        let error = order(&list[1..], &["gate.test"], 1).unwrap_err();
        assert!(error.starts_with("554 5.4.6 mail for example.test loops back to us"), "{error}");
    }

    #[test]
    fn addresses_in_turn_and_usable_only() {
        let ip = |t: &str| t.parse::<IpAddr>().unwrap();
        let per_host = [
            Some(vec![ip("192.0.2.1"), ip("0.0.0.0"), ip("224.0.0.1"), ip("255.255.255.255")]),
            None,
            Some(vec![ip("192.0.2.1"), ip("2001:db8::1"), ip("::"), ip("192.0.2.3")]),
        ];
        assert_eq!(addresses(&per_host, 10), [ip("192.0.2.1"), ip("2001:db8::1"), ip("192.0.2.3")]);
        assert_eq!(addresses(&per_host, 2).len(), 2);
        assert!(no_addresses(&d("x.test"), true).is_permanent() && no_addresses(&d("x.test"), false).is_transient());
    }
}
