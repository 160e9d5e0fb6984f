//! The text of THREAD (RFC 5256 §4): members in the order of a walk become parentheses, without recursion.
//!
//! How it fails: a message the session does not see is written as one that is missing.

use crate::base::mailbox::View;
use crate::base::mailbox::search::ThreadMember;

/// ` (2)(3 6 (4 23)(44 7 96))`, with the space in front; empty where there is no thread.
pub(super) fn text(view: &View, uid: bool, members: &[ThreadMember]) -> String {
    let children = children(members);
    let mut out = String::new();
    // For each open member whether it has opened a parenthesis, and how many children it has.
    let mut open: Vec<(bool, usize)> = Vec::new();
    for (member, children) in members.iter().zip(children) {
        let depth = usize::try_from(member.depth).unwrap_or(usize::MAX).min(open.len());
        while open.len() > depth {
            if open.pop().is_some_and(|(parenthesis, _)| parenthesis) {
                out.push(')');
            }
        }
        let alone = open.last().is_some_and(|(_, siblings)| *siblings == 1);
        // A number is set off from what follows it; threads are not set off from each other.
        let after_number = out.ends_with(|c: char| c.is_ascii_digit());
        if out.is_empty() || after_number {
            out.push(' ');
        }
        if !alone {
            out.push('(');
        }
        let number = member.uid.and_then(|u| view.seq_of(u).map(|seq| if uid { u } else { seq }));
        if let Some(number) = number {
            out.push_str(&number.to_string());
        } else if alone && after_number {
            out.pop();
        }
        open.push((!alone, children));
    }
    for (parenthesis, _) in open.into_iter().rev() {
        if parenthesis {
            out.push(')');
        }
    }
    out
}

/// How many children each member has.
fn children(members: &[ThreadMember]) -> Vec<usize> {
    let mut counts = vec![0; members.len()];
    let mut path: Vec<usize> = Vec::new();
    for (i, member) in members.iter().enumerate() {
        path.truncate(usize::try_from(member.depth).unwrap_or(usize::MAX));
        if let Some(parent) = path.last() {
            counts[*parent] += 1;
        }
        path.push(i);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::mailbox::UidSet;

    #[test]
    fn threads_are_written_as_rfc_5256_writes_them() {
        let view = View::new(&UidSet::range(1, 200));
        let written = |members: &[(u32, u32)]| {
            let members: Vec<ThreadMember> =
                members.iter().map(|&(depth, uid)| ThreadMember { depth, uid: (uid > 0).then_some(uid) }).collect();
            text(&view, true, &members)
        };
        assert_eq!(written(&[]), "");
        // The example of RFC 5256 §4.
        let example = [(0, 2), (0, 3), (1, 6), (2, 4), (3, 23), (2, 44), (3, 7), (4, 96)];
        assert_eq!(written(&example), " (2)(3 6 (4 23)(44 7 96))");
        // A parent that is missing.
        assert_eq!(written(&[(0, 0), (1, 3), (1, 5)]), " ((3)(5))");
        assert_eq!(written(&[(0, 0), (1, 3), (2, 4), (1, 5), (0, 6)]), " ((3 4)(5))(6)");
    }
}
