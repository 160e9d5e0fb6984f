//! Facts, expressions, rules, lists and limits: a decision with a reason and a trace.
//!
//! A policy file is compiled once ([`Policy::compile`]) into a flat program. Each connection has a [`Session`], which is
//! told what happens and answers with [`Decision`]s. Time and everything that must be looked up are told; the room has no
//! clock, no files and no network, so the same code judges live traffic, golden cases and recordings: `journal` writes sessions down, `replay` judges them again, `tune`
//! proposes limits from them.
//!
//! | to add | write |
//! | --- | --- |
//! | a fact (a check) | a row in a file of `facts/` (a new file: one line in `facts/mod.rs`), a golden case in `policy/` |
//! | a function of header fields | a row in `functions.rs`, a golden case |
//! | an outcome | a variant and a row in `outcome.rs`, a golden case |
//!
//! How it fails: a policy with an error is not compiled and every [`Diagnostic`] says where and what was expected;
//! judging is total.

mod cases;
mod check;
mod compile;
mod content;
mod decision;
#[cfg(test)]
mod decisions_tests;
mod diagnostic;
mod dnsbl;
mod facts;
mod found;
mod functions;
mod greylist;
mod header;
mod history;
mod inquiries;
mod inventory;
pub mod journal;
mod judge;
mod lexer;
mod limit;
mod limit_source;
mod limits;
mod lint;
mod list;
mod memory;
mod missing;
mod mode;
mod networks;
mod obey;
mod outcome;
mod parser;
mod program;
mod reading;
mod recording;
mod reference;
pub mod replay;
mod reputation;
mod rules;
mod score;
mod session;
mod shadow;
mod source;
mod stage;
mod state;
mod tally;
#[cfg(test)]
mod tests;
mod texts;
mod threshold;
mod trace;
pub mod tune;
mod value;
mod walk;

pub use cases::{CaseFile, CaseResult, Miss, Report, Unreadable};
pub use decision::{Decision, Guarded, Verdict, Would};
pub use diagnostic::{Diagnostic, Severity, nearest};
pub use facts::{Fact, FactSet};
pub use inventory::ListShape;
pub use limit::Rate;
pub use limits::{Lease, LimitKnobs, Limits, Remembered};
pub use lint::{Linted, lint};
pub use list::Kind;
pub use memory::{Memory, MemorySize};
pub use networks::{Networks, parse_network};
pub use reference::{reference, schema};
pub use rules::{Builtins, Files, NoFiles, Policy, Rule, RuleId};
pub use session::{Authentication, FactError, Session};
pub use shadow::{Difference, ShadowCounts, ShadowPolicy};
pub use stage::Stage;
pub use state::{ClientFacts, Faults, Load, TlsFacts};
pub use tally::{LimitCounts, RuleCounts};
pub use trace::{Part, RuleTrace, StageTrace, Trace};
pub use value::{Given, Type, Value, show_thousandths};
