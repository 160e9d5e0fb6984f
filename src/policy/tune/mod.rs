//! Limits from traffic: what every key of every limit wanted, what that suggests, and the policy file with the suggestion.
//!
//! A replay with a [`Ledger`] lets every limit pass and gathers the demand. [`propose`] makes values of its distribution;
//! [`write()`] puts them into the file and keeps its comments. What the values would do is found out by replaying the file
//! so made. How it fails: a limit that nobody asked for has no proposal.

mod demand;
mod propose;
mod write;

pub(super) use demand::Demand;
pub use demand::{KeyDemand, Ledger, LimitDemand};
pub use propose::{Basis, Proposal, Spread, propose};
pub use write::{Unwritten, write};
