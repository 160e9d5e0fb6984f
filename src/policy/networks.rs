//! A set of networks, built once, asked often: is this address in one of them?
//!
//! Networks are merged into sorted, disjoint ranges, and every sixteenth start of a level is repeated in the level
//! above it, as in a B-tree without pointers. A question costs one block of sixteen numbers per level (a cache line for
//! IPv4): five levels for a million ranges, of which the upper three always stay in the cache. Compared with a trie of
//! nodes this has no bad case (a million single hosts cost the same as a million /24) and takes 8 octets a range for
//! IPv4 and 32 for IPv6.
//!
//! How it fails: building and asking are total; [`parse_network`] says what was expected.

use ipnet::IpNet;
use std::net::IpAddr;

const BLOCK: usize = 16; // u32 starts of one cache line

/// Reads a network (`192.0.2.0/24`, `2001:db8::/32`) or one address. IPv4-mapped IPv6 becomes IPv4.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let expected = || format!("expected a network such as 192.0.2.0/24 or 2001:db8::/32, found {text:?}");
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| expected())?),
    };
    if net.addr() != net.network() {
        return Err(format!("{text} has bits set behind its prefix; expected {}", net.trunc()));
    }
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::new(v4.into(), v6.prefix_len() - 96).map_err(|_| expected()),
            None => Ok(net),
        },
        _ => Ok(net),
    }
}

/// A set of networks.
#[derive(Debug, Default)]
pub struct Networks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Networks {
    /// The set of all addresses of `nets`.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Networks {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(n) => v4.push((u32::from(n.network()), u32::from(n.broadcast()))),
                IpNet::V6(n) => v6.push((u128::from(n.network()), u128::from(n.broadcast()))),
            }
        }
        Networks { v4: Ranges::new(v4), v6: Ranges::new(v6) }
    }
    /// Whether `ip` is in one of the networks. IPv4-mapped IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.contains(u32::from(ip)),
            IpAddr::V6(ip) => self.v6.contains(u128::from(ip)),
        }
    }
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.ends.is_empty() && self.v6.ends.is_empty()
    }
    /// Disjoint ranges after merging.
    pub fn len(&self) -> usize {
        self.v4.ends.len() + self.v6.ends.len()
    }
}

/// What an address is as a number.
trait Key: Copy + Ord + std::fmt::Debug {
    /// The number after this one, unless it is the last.
    fn successor(self) -> Option<Self>;
    /// How many of a sorted block are not above `self`.
    fn rank(self, block: &[Self]) -> usize;
}

impl Key for u32 {
    fn successor(self) -> Option<u32> {
        self.checked_add(1)
    }
    /// Compares all: sixteen at once where the machine has vectors, no branch to guess wrong.
    fn rank(self, block: &[u32]) -> usize {
        block.iter().map(|k| u32::from(*k <= self)).sum::<u32>() as usize
    }
}

impl Key for u128 {
    fn successor(self) -> Option<u128> {
        self.checked_add(1)
    }
    fn rank(self, block: &[u128]) -> usize {
        block.partition_point(|k| *k <= self)
    }
}

/// Sorted disjoint ranges, both ends inclusive.
#[derive(Debug)]
struct Ranges<K> {
    /// `levels[0]` holds the start of every range; each level repeats every sixteenth number of the one before.
    levels: Vec<Vec<K>>,
    ends: Vec<K>,
}

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Ranges { levels: Vec::new(), ends: Vec::new() }
    }
}

impl<K: Key> Ranges<K> {
    fn new(mut ranges: Vec<(K, K)>) -> Ranges<K> {
        ranges.sort_unstable();
        let (mut starts, mut ends): (Vec<K>, Vec<K>) = (Vec::new(), Vec::new());
        for (start, end) in ranges {
            match ends.last_mut() {
                // Overlapping or adjacent: `last + 1 >= start`; nothing lies above the last number.
                Some(last) if last.successor().is_none_or(|next| next >= start) => *last = (*last).max(end),
                _ => {
                    starts.push(start);
                    ends.push(end);
                }
            }
        }
        starts.shrink_to_fit();
        ends.shrink_to_fit();
        let mut levels = vec![starts];
        while let Some(below) = levels.last().filter(|l| l.len() > BLOCK) {
            let above = below.iter().copied().step_by(BLOCK).collect();
            levels.push(above);
        }
        Ranges { levels, ends }
    }

    #[inline]
    fn contains(&self, key: K) -> bool {
        let mut at = 0; // first index of the block to look at
        let mut found = 0; // index of the last start not above the key
        for level in self.levels.iter().rev() {
            let block = &level[at..level.len().min(at + BLOCK)];
            let rank = key.rank(block);
            if rank == 0 {
                return false; // below the first start of all
            }
            found = at + rank - 1;
            at = found * BLOCK;
        }
        self.ends.get(found).is_some_and(|end| key <= *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        parse_network(text).unwrap()
    }

    #[test]
    fn edges_belong_and_neighbours_do_not() {
        let set = Networks::new(["10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8", "2001:db8::/32"].map(net));
        for (ip, inside) in [
            ("10.0.0.0", true),
            ("11.255.255.255", true),
            ("12.0.0.0", false),
            ("9.255.255.255", false),
            ("::ffff:10.1.2.3", true),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(set.contains(ip.parse().unwrap()), inside, "{ip}");
        }
        assert_eq!(set.len(), 2); // 10/8 and 11/8 touch
        assert!(!Networks::default().contains("10.0.0.1".parse().unwrap()));
        assert!(Networks::default().is_empty());
    }

    #[test]
    fn the_whole_address_space_is_one_range() {
        let set = Networks::new(["0.0.0.0/0", "255.255.255.255", "::/0"].map(net));
        assert!(set.contains("255.255.255.255".parse().unwrap()) && set.contains("::".parse().unwrap()));
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn bits_behind_the_prefix_are_an_error_with_the_network_meant() {
        assert!(parse_network("192.0.2.1/24").unwrap_err().ends_with("expected 192.0.2.0/24"));
        assert!(parse_network("192.0.2").unwrap_err().contains("expected a network"));
        assert_eq!(net("::ffff:192.0.2.0/120"), net("192.0.2.0/24"));
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_twin(
            nets in prop::collection::vec((any::<u32>(), 6u8..=32), 0..400),
            nets6 in prop::collection::vec((any::<u8>(), 0u8..=128), 0..60),
            asked in prop::collection::vec(any::<u32>(), 100),
        ) {
            let mut all: Vec<IpNet> =
                nets.iter().map(|(a, len)| IpNet::new(IpAddr::V4((*a).into()), *len).unwrap().trunc()).collect();
            all.extend(nets6.iter().map(|(a, len)| {
                // Few distinct first octets, so that networks nest.
                IpNet::new(IpAddr::V6((u128::from(*a) << 120 | u128::from(*a)).into()), *len).unwrap().trunc()
            }));
            let set = Networks::new(all.iter().copied());
            let edges = all.iter().flat_map(|n| [n.network(), n.broadcast()]);
            for ip in edges.chain(asked.iter().map(|a| IpAddr::V4((*a).into()))) {
                let naive = all.iter().any(|n| n.contains(&ip));
                prop_assert_eq!(set.contains(ip), naive, "{}", ip);
            }
        }
    }
}
