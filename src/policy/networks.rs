//! A set of networks, built once, asked often: is this address in one of them?
//!
//! Networks are merged into sorted, disjoint ranges, eight to a leaf; above the leaves stand levels that repeat the first
//! start of every block below, as in a B-tree without pointers. A question costs one block per level (a cache line for
//! IPv4, two for IPv6): six for a million ranges, of which the upper four always stay in the nearest cache. Compared with
//! a trie of nodes this has no bad case (a million single hosts cost the same as a million /24) and takes 9 octets a
//! range for IPv4 and 17 for IPv6.
//!
//! A large set has a jump table besides: the numbers between its first and its last, cut into 65,536 equal parts, each
//! with the leaves that may hold it. Where a part has a few leaves only, which is nearly everywhere, the levels are left
//! out: one line of the table and one leaf, instead of six blocks of which two or three come from far memory.
//!
//! IPv6 networks of /64 and shorter, which is nearly all of any list, are ranges of the upper half of the address alone;
//! the longer ones stand in a set of their own, which is mostly empty.
//!
//! How it fails: building and asking are total; [`parse_network`] says what was expected.

use ipnet::IpNet;
use std::net::IpAddr;

const FENCES: usize = 16; // IPv4 starts of one cache line
/// Leaves from which on a set has a jump table.
const JUMP_LEAVES_MIN: usize = 4096;
/// Parts of a jump table.
const JUMP_PARTS: usize = 1 << 16;
/// Leaves that are searched one after the other rather than by the levels.
const JUMP_LEAVES_MAX: usize = 4;
const LEAF: usize = 8; // IPv4 ranges, both ends, of one cache line (IPv6: two)

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
    /// IPv6 up to /64, by the upper half.
    v6: Ranges<u64>,
    /// IPv6 beyond /64.
    v6_long: Ranges<u128>,
}

impl Networks {
    /// The set of all addresses of `nets`.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Networks {
        let (mut v4, mut v6, mut v6_long) = (Vec::new(), Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(n) => v4.push((u32::from(n.network()), u32::from(n.broadcast()))),
                IpNet::V6(n) if n.prefix_len() <= 64 => v6.push((upper(n.network()), upper(n.broadcast()))),
                IpNet::V6(n) => v6_long.push((u128::from(n.network()), u128::from(n.broadcast()))),
            }
        }
        Networks::of(v4, v6, v6_long)
    }
    /// The set of all addresses of several sets.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a Networks>) -> Networks {
        let (mut v4, mut v6, mut v6_long) = (Vec::new(), Vec::new(), Vec::new());
        for set in sets {
            v4.extend(set.v4.ranges());
            v6.extend(set.v6.ranges());
            v6_long.extend(set.v6_long.ranges());
        }
        Networks::of(v4, v6, v6_long)
    }
    fn of(v4: Vec<(u32, u32)>, v6: Vec<(u64, u64)>, mut v6_long: Vec<(u128, u128)>) -> Networks {
        let v6 = Ranges::new(v6);
        // A range within a network of the other set adds nothing; joined ones may reach over several /64.
        let half = |end: u128| (end >> 64) as u64;
        v6_long.retain(|(first, last)| half(*first) != half(*last) || !v6.contains(half(*first)));
        Networks { v4: Ranges::new(v4), v6, v6_long: Ranges::new(v6_long) }
    }
    /// Whether `ip` is in one of the networks. IPv4-mapped IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.contains(u32::from(ip)),
            IpAddr::V6(ip) => self.v6.contains(upper(ip)) || self.v6_long.contains(u128::from(ip)),
        }
    }
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Disjoint ranges after merging.
    pub fn len(&self) -> usize {
        self.v4.len + self.v6.len + self.v6_long.len
    }
}

/// The network half of an address.
fn upper(ip: std::net::Ipv6Addr) -> u64 {
    (u128::from(ip) >> 64) as u64
}

/// What an address is as a number.
trait Key: Copy + Ord + std::fmt::Debug {
    /// The number after this one, unless it is the last.
    fn successor(self) -> Option<Self>;
    /// How far it is above `base`, without its lowest `shift` bits; the caller has seen to it that it fits.
    fn part(self, base: Self, shift: u32) -> usize;
    /// The smallest shift by which the distance from `base` to this number is below [`JUMP_PARTS`].
    fn part_shift(self, base: Self) -> u32;
    /// How many of a sorted block are not above `self`. Compares all: no branch to guess wrong, several at once where the
    /// machine has vectors, and cache lines of a large block are fetched side by side rather than one after the other.
    #[inline]
    fn rank<const N: usize>(self, block: &[Self; N]) -> usize {
        block.iter().map(|k| usize::from(*k <= self)).sum()
    }
}

impl Key for u32 {
    fn successor(self) -> Option<u32> {
        self.checked_add(1)
    }
    #[inline]
    fn part(self, base: u32, shift: u32) -> usize {
        ((self - base) >> shift) as usize
    }
    fn part_shift(self, base: u32) -> u32 {
        (u32::BITS - (self - base).leading_zeros()).saturating_sub(JUMP_PARTS.trailing_zeros())
    }
    #[inline]
    fn rank<const N: usize>(self, block: &[u32; N]) -> usize {
        // Sums as wide as the keys fill a vector better.
        block.iter().map(|k| u32::from(*k <= self)).sum::<u32>() as usize
    }
}

impl Key for u64 {
    fn successor(self) -> Option<u64> {
        self.checked_add(1)
    }
    #[inline]
    fn part(self, base: u64, shift: u32) -> usize {
        ((self - base) >> shift) as usize
    }
    fn part_shift(self, base: u64) -> u32 {
        (u64::BITS - (self - base).leading_zeros()).saturating_sub(JUMP_PARTS.trailing_zeros())
    }
}

impl Key for u128 {
    fn successor(self) -> Option<u128> {
        self.checked_add(1)
    }
    #[inline]
    fn part(self, base: u128, shift: u32) -> usize {
        ((self - base) >> shift) as usize
    }
    fn part_shift(self, base: u128) -> u32 {
        (u128::BITS - (self - base).leading_zeros()).saturating_sub(JUMP_PARTS.trailing_zeros())
    }
}

/// Starts that begin the blocks of the level below.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Fences<K>([K; FENCES]);

/// Ranges with both ends side by side: whoever found the start has the end in the same cache line (IPv4).
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Leaf<K> {
    starts: [K; LEAF],
    ends: [K; LEAF],
}

/// Sorted disjoint ranges, both ends inclusive. Unused places of a block repeat the last used one.
#[derive(Debug)]
struct Ranges<K> {
    /// The top level first. Each has a number for every block of the level below it, the last for every leaf.
    levels: Vec<(Vec<Fences<K>>, usize)>,
    leaves: Vec<Leaf<K>>,
    jump: Option<Jump<K>>,
    len: usize,
}

/// For each part of the numbers from `first` on: the leaf that a number of the part is in or behind, and that of the next.
#[derive(Debug)]
struct Jump<K> {
    first: K,
    last: K,
    shift: u32,
    leaves: Vec<u32>,
}

impl<K: Key> Jump<K> {
    fn new(leaves: &[Leaf<K>]) -> Option<Jump<K>> {
        let (first, last) = (leaves.first()?.starts[0], leaves.last()?.ends[LEAF - 1]);
        if leaves.len() < JUMP_LEAVES_MIN || u32::try_from(leaves.len()).is_err() {
            return None;
        }
        let shift = last.part_shift(first);
        let mut at = vec![0; last.part(first, shift) + 2];
        // A part begins in the last leaf that starts in an earlier part, or in the first that starts in it.
        for (index, leaf) in leaves.iter().enumerate() {
            at[leaf.starts[0].part(first, shift) + 1] = index as u32;
        }
        for i in 1..at.len() {
            at[i] = at[i].max(at[i - 1]);
        }
        Some(Jump { first, last, shift, leaves: at })
    }

    /// The leaves that may hold `key`: the first and the last of them.
    #[inline]
    fn leaves(&self, key: K) -> Option<(usize, usize)> {
        if key < self.first || key > self.last {
            return None;
        }
        let part = key.part(self.first, self.shift);
        Some((self.leaves[part] as usize, self.leaves[part + 1] as usize))
    }
}

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Ranges { levels: Vec::new(), leaves: Vec::new(), jump: None, len: 0 }
    }
}

impl<K: Key> Ranges<K> {
    fn new(mut ranges: Vec<(K, K)>) -> Ranges<K> {
        ranges.sort_unstable();
        let mut merged: Vec<(K, K)> = Vec::new();
        for (start, end) in ranges {
            match merged.last_mut() {
                // Overlapping or adjacent: `last + 1 >= start`; nothing lies above the last number.
                Some((_, last)) if last.successor().is_none_or(|next| next >= start) => *last = (*last).max(end),
                _ => merged.push((start, end)),
            }
        }
        let leaves: Vec<Leaf<K>> = merged.chunks(LEAF).map(leaf).collect();
        let mut levels = Vec::new();
        let mut below: Vec<K> = leaves.iter().map(|l| l.starts[0]).collect();
        while below.len() > 1 {
            let blocks: Vec<Fences<K>> = below.chunks(FENCES).map(fences).collect();
            let firsts = blocks.iter().map(|b| b.0[0]).collect();
            levels.push((blocks, below.len()));
            below = firsts;
        }
        levels.reverse();
        Ranges { levels, jump: Jump::new(&leaves), leaves, len: merged.len() }
    }

    /// The ranges, the last perhaps more than once.
    fn ranges(&self) -> impl Iterator<Item = (K, K)> {
        self.leaves.iter().flat_map(|l| l.starts.iter().copied().zip(l.ends.iter().copied()))
    }

    #[inline]
    fn contains(&self, key: K) -> bool {
        if let Some(jump) = &self.jump {
            match jump.leaves(key) {
                None => return false,
                Some((first, last)) if last - first < JUMP_LEAVES_MAX => {
                    // From behind: the leaf that begins at or below the key is the only one that can hold it.
                    let at = (first..=last).rev().find(|at| self.leaves[*at].starts[0] <= key);
                    return at.is_some_and(|at| self.leaves[at].contains(key));
                }
                Some(_) => {}
            }
        }
        self.contains_by_levels(key)
    }

    #[inline]
    fn contains_by_levels(&self, key: K) -> bool {
        let mut at = 0; // the block to look at, then the leaf
        for (blocks, len) in &self.levels {
            let rank = key.rank(&blocks[at].0);
            if rank == 0 {
                return false; // below the first start of all
            }
            at = (at * FENCES + rank - 1).min(len - 1);
        }
        self.leaves.get(at).is_some_and(|leaf| leaf.contains(key))
    }
}

impl<K: Key> Leaf<K> {
    #[inline]
    fn contains(&self, key: K) -> bool {
        match key.rank(&self.starts) {
            0 => false,
            rank => key <= self.ends[rank - 1],
        }
    }
}

/// A leaf of one to [`LEAF`] ranges.
fn leaf<K: Key>(ranges: &[(K, K)]) -> Leaf<K> {
    let at = |i: usize| ranges[i.min(ranges.len() - 1)];
    Leaf { starts: std::array::from_fn(|i| at(i).0), ends: std::array::from_fn(|i| at(i).1) }
}

/// A block of one to [`FENCES`] starts.
fn fences<K: Key>(starts: &[K]) -> Fences<K> {
    Fences(std::array::from_fn(|i| starts[i.min(starts.len() - 1)]))
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

    #[test]
    fn the_jump_table_agrees_with_the_levels() {
        let mut random = fastrand::Rng::with_seed(7);
        // Spread evenly, in clusters, and all in one part.
        for (step, cluster) in [(1u64 << 40, 1u64), (1 << 45, 1000), (2, 1 << 40)] {
            let starts = (0..60_000u64).map(|n| (n / cluster) * step * 7 + (n % cluster) * 2 + random.u64(0..2));
            let ranges = Ranges::new(starts.map(|s| (s, s)).collect());
            assert!(ranges.jump.is_some());
            let ends: Vec<u64> = ranges.ranges().flat_map(|(s, e)| [s, e]).collect();
            for end in ends {
                for key in [end.saturating_sub(1), end, end + 1, end ^ (step >> 3)] {
                    assert_eq!(ranges.contains(key), ranges.contains_by_levels(key), "{key}");
                }
            }
            for key in [0, u64::MAX, random.u64(..)] {
                assert_eq!(ranges.contains(key), ranges.contains_by_levels(key), "{key}");
            }
        }
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
            let again = Networks::union([&set, &Networks::default(), &Networks::new(all.iter().copied().take(3))]);
            let edges = all.iter().flat_map(|n| [n.network(), n.broadcast()]);
            for ip in edges.chain(asked.iter().map(|a| IpAddr::V4((*a).into()))) {
                // An IPv4-mapped address is an IPv4 address, whatever IPv6 network it would be in.
                let naive = all.iter().any(|n| n.contains(&ip.to_canonical()));
                prop_assert_eq!(set.contains(ip), naive, "{}", ip);
                prop_assert_eq!(again.contains(ip), naive, "{}", ip);
            }
        }
    }
}
