//! THREAD: ORDEREDSUBJECT and REFERENCES (RFC 5256 §4), over what is known of each message. No recursion: threads are as
//! deep as whoever sends mail likes.
//!
//! How it fails: it does not; what would make a loop, or a thread deeper than [`DEPTH_MAX`], begins a thread of its own.

use crate::base::mailbox::Uid;
use crate::base::mailbox::search::ThreadMember;
use crate::wire::mime::SortFields;
use std::collections::HashMap;
use std::sync::Arc;

/// Levels that are looked at when a message is put below another: what is deeper is not joined.
pub(super) const DEPTH_MAX: usize = 256;

/// A message to be threaded.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub uid: Uid,
    /// Seconds since 1970.
    pub sent: i64,
    pub fields: Arc<SortFields>,
}

/// Base subject, then sent date; the first of a subject has the others below it.
pub(super) fn ordered_subject(items: &[Item]) -> Vec<ThreadMember> {
    let mut sorted: Vec<&Item> = items.iter().collect();
    sorted.sort_by(|a, b| (&a.fields.subject, a.sent, a.uid).cmp(&(&b.fields.subject, b.sent, b.uid)));
    let mut threads: Vec<&[&Item]> = sorted.chunk_by(|a, b| a.fields.subject == b.fields.subject).collect();
    threads.sort_by_key(|thread| (thread[0].sent, thread[0].uid));
    let members = threads.into_iter().flat_map(|thread| {
        thread.iter().enumerate().map(|(i, item)| ThreadMember { depth: u32::from(i > 0), uid: Some(item.uid) })
    });
    members.collect()
}

/// A message, or the place of one that is missing.
#[derive(Debug, Default)]
struct Node {
    item: Option<usize>,
    parent: Option<usize>,
    children: Vec<usize>,
}

struct Forest<'a> {
    items: &'a [Item],
    nodes: Vec<Node>,
}

/// The REFERENCES algorithm, its steps numbered as in RFC 5256 §4.
pub(super) fn references(items: &[Item]) -> Vec<ThreadMember> {
    let mut forest = Forest { items, nodes: Vec::with_capacity(items.len()) };
    forest.link();
    let roots = forest.roots_without_dummies();
    let mut roots = forest.joined_by_subject(roots);
    forest.sort_siblings(&roots);
    forest.sort(&mut roots);
    forest.walk(&roots)
}

impl Forest<'_> {
    /// Step 1: every message below the last of its references, references below one another.
    fn link(&mut self) {
        let items = self.items;
        let mut by_id: HashMap<&str, usize> = HashMap::new();
        let mut own = Vec::with_capacity(items.len());
        // (A): an id that is missing or was taken by another message is as good as a unique one.
        for (i, item) in items.iter().enumerate() {
            let node = self.nodes.len();
            self.nodes.push(Node { item: Some(i), ..Node::default() });
            own.push(node);
            if let Some(id) = item.fields.message_id.as_deref() {
                by_id.entry(id).or_insert(node);
            }
        }
        for (item, node) in items.iter().zip(own) {
            let mut last = None;
            for reference in &item.fields.references {
                let at = *by_id.entry(reference).or_insert_with(|| {
                    self.nodes.push(Node::default());
                    self.nodes.len() - 1
                });
                if let Some(parent) = last
                    && self.nodes[at].parent.is_none()
                {
                    self.put_below(parent, at);
                }
                last = Some(at);
            }
            // (B): its own last reference is believed before what others say.
            if let Some(parent) = last
                && self.nodes[node].parent != Some(parent)
            {
                let before = self.nodes[node].parent;
                if self.may_be_below(parent, node) {
                    if let Some(before) = before {
                        self.nodes[before].children.retain(|c| *c != node);
                    }
                    self.nodes[node].parent = None;
                    self.put_below(parent, node);
                }
            }
        }
    }

    /// Whether that makes no loop, as far as it is looked at.
    fn may_be_below(&self, parent: usize, child: usize) -> bool {
        let mut at = parent;
        for _ in 0..DEPTH_MAX {
            if at == child {
                return false;
            }
            match self.nodes[at].parent {
                Some(above) => at = above,
                None => return true,
            }
        }
        false
    }

    fn put_below(&mut self, parent: usize, child: usize) {
        if self.may_be_below(parent, child) {
            self.nodes[child].parent = Some(parent);
            self.nodes[parent].children.push(child);
        }
    }

    /// Nodes below these, parents before children.
    fn below(&self, roots: &[usize]) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut left: Vec<usize> = roots.iter().rev().copied().collect();
        while let Some(node) = left.pop() {
            order.push(node);
            left.extend(self.nodes[node].children.iter().rev());
        }
        order
    }

    /// Steps 2 and 3: what has no parent is a root; places of missing messages go, their children move up, but a root
    /// keeps its place when it joins several.
    fn roots_without_dummies(&mut self) -> Vec<usize> {
        let mut roots: Vec<usize> = (0..self.nodes.len()).filter(|n| self.nodes[*n].parent.is_none()).collect();
        for node in self.below(&roots).into_iter().rev() {
            let mut kept = Vec::with_capacity(self.nodes[node].children.len());
            for child in std::mem::take(&mut self.nodes[node].children) {
                if self.nodes[child].item.is_some() {
                    kept.push(child);
                } else {
                    kept.append(&mut self.nodes[child].children);
                }
            }
            kept.iter().for_each(|child| self.nodes[*child].parent = Some(node));
            self.nodes[node].children = kept;
        }
        let mut kept = Vec::with_capacity(roots.len());
        for root in roots.drain(..) {
            match (&self.nodes[root].item, self.nodes[root].children.as_slice()) {
                (Some(_), _) | (None, [_, _, ..]) => kept.push(root),
                (None, [only]) => {
                    let only = *only;
                    self.nodes[only].parent = None;
                    kept.push(only);
                }
                (None, []) => {}
            }
        }
        kept
    }

    /// The message that stands for a thread: its root, or the first child of a missing one (step 4).
    fn first_of(&self, root: usize) -> Option<&Item> {
        let of = |node: &usize| self.nodes[*node].item.map(|i| &self.items[i]);
        of(&root).or_else(|| self.nodes[root].children.iter().filter_map(of).min_by_key(|i| (i.sent, i.uid)))
    }

    fn is_dummy(&self, node: usize) -> bool {
        self.nodes[node].item.is_none()
    }

    /// Step 5: threads with the same base subject are one.
    fn joined_by_subject(&mut self, mut roots: Vec<usize>) -> Vec<usize> {
        self.sort(&mut roots);
        let about: HashMap<usize, (String, bool)> = roots
            .iter()
            .filter_map(|root| {
                let item = self.first_of(*root)?;
                Some((*root, (item.fields.subject.clone(), item.fields.is_reply)))
            })
            .collect();
        let mut table: HashMap<&str, usize> = HashMap::new();
        for root in &roots {
            let Some((subject, is_reply)) = about.get(root).filter(|(s, _)| !s.is_empty()) else { continue };
            let held = table.entry(subject).or_insert(*root);
            let held_is_reply = about.get(held).is_some_and(|(_, r)| *r);
            if (self.is_dummy(*root) && !self.is_dummy(*held)) || (!self.is_dummy(*held) && held_is_reply && !is_reply)
            {
                *held = *root;
            }
        }
        let mut left = Vec::with_capacity(roots.len());
        // A thread in the table that was joined with another stands below a new place.
        let mut place: HashMap<usize, usize> = HashMap::new();
        for root in &roots {
            let held = about.get(root).filter(|(s, _)| !s.is_empty()).and_then(|(s, _)| table.get(s.as_str()).copied());
            let Some(held) = held.filter(|held| held != root) else {
                left.push(*root);
                continue;
            };
            let is_reply = |node: usize| about.get(&node).is_some_and(|(_, r)| *r);
            let target = place.get(&held).copied().unwrap_or(held);
            match (self.is_dummy(target), self.is_dummy(*root)) {
                (true, true) => {
                    let children = std::mem::take(&mut self.nodes[*root].children);
                    children.iter().for_each(|c| self.nodes[*c].parent = Some(target));
                    self.nodes[target].children.extend(children);
                }
                (true, false) => self.adopt(target, *root),
                (false, _) if is_reply(*root) && !is_reply(held) => self.adopt(target, *root),
                (false, _) => {
                    self.nodes.push(Node::default());
                    let joined = self.nodes.len() - 1;
                    self.adopt(joined, held);
                    self.adopt(joined, *root);
                    place.insert(held, joined);
                }
            }
        }
        left.iter().map(|root| place.get(root).copied().unwrap_or(*root)).collect()
    }

    fn adopt(&mut self, parent: usize, child: usize) {
        self.nodes[child].parent = Some(parent);
        self.nodes[parent].children.push(child);
    }

    /// Steps 4 and 6: by sent date, then by place in the mailbox.
    fn sort(&self, nodes: &mut [usize]) {
        nodes.sort_by_cached_key(|node| self.first_of(*node).map(|i| (i.sent, i.uid)));
    }

    fn sort_siblings(&mut self, roots: &[usize]) {
        // From below, because a missing message is sorted by its first child.
        for node in self.below(roots).into_iter().rev() {
            let mut children = std::mem::take(&mut self.nodes[node].children);
            self.sort(&mut children);
            self.nodes[node].children = children;
        }
    }

    fn walk(&self, roots: &[usize]) -> Vec<ThreadMember> {
        let mut members = Vec::with_capacity(self.items.len());
        let mut left: Vec<(u32, usize)> = roots.iter().rev().map(|root| (0, *root)).collect();
        while let Some((depth, node)) = left.pop() {
            let uid = self.nodes[node].item.map(|i| self.items[i].uid);
            members.push(ThreadMember { depth, uid });
            left.extend(self.nodes[node].children.iter().rev().map(|child| (depth + 1, *child)));
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(uid: u32, subject: &str, id: &str, references: &[&str]) -> Item {
        let fields = SortFields {
            subject: subject.trim_start_matches("RE: ").to_owned(),
            is_reply: subject.starts_with("RE: "),
            message_id: (!id.is_empty()).then(|| id.to_owned()),
            references: references.iter().map(|r| (*r).to_owned()).collect(),
            ..SortFields::default()
        };
        Item { uid, sent: i64::from(uid), fields: Arc::new(fields) }
    }

    /// As a client would see it, missing messages as 0.
    fn show(members: &[ThreadMember]) -> String {
        members.iter().map(|m| format!("{}{} ", "-".repeat(m.depth as usize), m.uid.unwrap_or(0))).collect()
    }

    #[test]
    fn subjects_in_order() {
        let items = [item(1, "B", "", &[]), item(2, "A", "", &[]), item(3, "RE: B", "", &[]), item(4, "B", "", &[])];
        assert_eq!(show(&ordered_subject(&items)), "1 -3 -4 2 ");
    }

    #[test]
    fn references_make_trees() {
        let items = [
            item(1, "A", "a", &[]),
            item(2, "RE: A", "b", &["a"]),
            item(3, "RE: A", "c", &["a", "b"]),
            item(4, "X", "d", &["gone", "lost"]),
            item(5, "Y", "e", &["gone"]),
        ];
        // "lost" has one child and goes; "gone" joins two.
        assert_eq!(show(&references(&items)), "1 -2 --3 0 -4 -5 ");
    }

    #[test]
    fn subjects_join_what_references_do_not() {
        let items =
            [item(1, "A", "a", &[]), item(2, "RE: A", "b", &[]), item(3, "C", "c", &[]), item(4, "C", "d", &[])];
        // A reply goes below; two that are none stand side by side.
        assert_eq!(show(&references(&items)), "1 -2 0 -3 -4 ");
        let items = [item(1, "RE: A", "a", &[]), item(2, "A", "b", &[]), item(3, "RE: A", "c", &[])];
        assert_eq!(show(&references(&items)), "2 -1 -3 ");
    }

    #[test]
    fn loops_and_twins_do_no_harm() {
        let items = [item(1, "A", "a", &["b"]), item(2, "B", "b", &["a"]), item(3, "C", "a", &["a"])];
        let shown = show(&references(&items));
        assert_eq!(shown.split_whitespace().count(), 3, "{shown}");
    }

    #[test]
    fn a_thread_that_is_too_deep_is_cut() {
        let ids: Vec<String> = (0..2000).map(|n| format!("id{n}")).collect();
        let items: Vec<Item> = (0..2000)
            .map(|n| {
                item(
                    n as u32 + 1,
                    &format!("s{n}"),
                    &ids[n],
                    if n == 0 { vec![] } else { vec![ids[n - 1].as_str()] }.as_slice(),
                )
            })
            .collect();
        let members = references(&items);
        assert_eq!(members.len(), 2000);
        assert!(members.iter().all(|m| (m.depth as usize) <= DEPTH_MAX));
    }

    proptest! {
        #[test]
        fn every_message_is_somewhere_once(
            spec in prop::collection::vec((0u8..12, prop::collection::vec(0u8..12, 0..4), 0u8..3, any::<bool>()), 0..25),
        ) {
            let items: Vec<Item> = spec.iter().enumerate().map(|(i, (id, refs, subject, reply))| {
                let references: Vec<String> = refs.iter().map(u8::to_string).collect();
                let references: Vec<&str> = references.iter().map(String::as_str).collect();
                let subject = format!("{}{subject}", if *reply { "RE: " } else { "" });
                item(i as u32 + 1, &subject, &id.to_string(), &references)
            }).collect();
            let members = references(&items);
            let mut uids: Vec<u32> = members.iter().filter_map(|m| m.uid).collect();
            uids.sort_unstable();
            prop_assert_eq!(uids, (1..=items.len() as u32).collect::<Vec<_>>());
            // A walk that visits parents first never goes down by more than one level, and begins at a root.
            let mut depth = None;
            for member in &members {
                prop_assert!(member.depth <= depth.map_or(0, |d: u32| d + 1));
                depth = Some(member.depth);
            }
            for (i, member) in members.iter().enumerate().filter(|(_, m)| m.uid.is_none()) {
                prop_assert_eq!(member.depth, 0);
                let children = members[i + 1..].iter().take_while(|m| m.depth > 0).filter(|m| m.depth == 1).count();
                prop_assert!(children > 1, "a place that joins nothing");
            }
        }
    }
}
