//! The grammar of IMAP (RFC 9051 §9, RFC 3501 §9 and their extensions): commands read, responses written.
//!
//! Bytes become whole commands in [`frame`], commands become values in [`parse()`], and [`emit`] writes the pieces of
//! responses. Pure values; which command may come when is the machine's affair. How it fails: what cannot be read says
//! where it stopped and what was expected, in words for the client's BAD.

mod append;
mod command;
mod date;
pub mod emit;
mod fetch;
pub mod frame;
mod list;
mod mailbox;
mod parse;
mod reader;
mod search;
mod select;
mod set;
pub mod utf7;

pub use command::*;
pub(in crate::wire) use date::{days_of, month_of};
pub use fetch::{FETCH_ATTRIBUTES_MAX, FETCH_FIELDS_MAX, SECTION_DEPTH_MAX};
pub use frame::{FrameLimits, Framed, Framer};
pub use mailbox::canonical_name;
pub use parse::{STATUS_ITEMS, parse};
pub use reader::{BadCommand, Mode};
pub use search::{SEARCH_DEPTH_MAX, SEARCH_KEYS_MAX};
pub use set::SET_RANGES_MAX;
