//! Commands and their values; what is refused and why; parse and emit as inverses.

use super::super::emit;
use super::*;
use crate::base::mailbox::ask::{SectionWhat, StoreHow, StructureForm};
use crate::base::mailbox::search::{Day, SearchKey, SortBy, ThreadBy, When, ZonedTime};
use crate::base::mailbox::{FlagNames, Flags, SpecialUse, UidSet};
use crate::base::time::WallTime;
use crate::wire::imap::{
    AppendMessage, Bound, FetchAttribute, FetchCommand, ListCommand, Qresync, SearchCommand, SequenceSet,
};
use proptest::prelude::*;

mod inverse;
mod refused;
mod values;

const REV1: Mode = Mode { utf8: false };
const UTF8: Mode = Mode { utf8: true };

#[track_caller]
fn command_in(text: &str, mode: Mode) -> Command {
    match parse(format!("a1 {text}").as_bytes(), mode) {
        Ok(tagged) => {
            assert_eq!(tagged.tag, "a1");
            tagged.command
        }
        Err(bad) => panic!("{text}: {}", bad.why),
    }
}

#[track_caller]
fn command(text: &str) -> Command {
    command_in(text, REV1)
}

fn numbers(first: u32, last: u32) -> (Bound, Bound) {
    (Bound::Number(first), Bound::Number(last))
}

fn one(n: u32) -> SequenceSet {
    SequenceSet::Ranges(vec![numbers(n, n)])
}
