//! Limits from traffic: what every key of every limit wanted, what that suggests, and the policy file with the suggestion.
//!
//! A replay with a [`Ledger`] lets every limit pass and gathers the demand. [`propose`] makes values of its distribution;
//! [`write()`] puts them into the file and keeps its comments. What the values would do is found out by replaying the file
//! so made. Scores and thresholds come from mail whose outcome is known ([`Labels`]): a [`Gatherer`] keeps what rules added to
//! it, and [`sweep()`] looks for points that tell spam from ham better. How it fails: a limit that nobody asked for has no
//! proposal.

mod demand;
mod labels;
mod propose;
mod samples;
mod sweep;
mod write;

pub(super) use demand::Demand;
pub use demand::{KeyDemand, Ledger, LimitDemand};
pub use labels::Labels;
pub use propose::{Basis, Proposal, Spread, propose};
pub use samples::Gatherer;
pub use sweep::{Curve, HAM_WEIGHT, Point, SAMPLES_MAX, Sample, Swept, Weight, sweep};
pub use write::{Rescored, Unwritten, write, write_scores};
