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
mod decision;
mod diagnostic;
mod facts;
mod functions;
mod header;
pub mod journal;
mod judge;
mod lexer;
mod limit;
mod limits;
mod list;
mod missing;
mod networks;
mod outcome;
mod parser;
mod program;
mod recording;
mod reference;
pub mod replay;
mod rules;
mod session;
mod source;
mod stage;
mod state;
#[cfg(test)]
mod tests;
mod texts;
mod trace;
pub mod tune;
mod value;

pub use cases::{CaseFile, CaseResult, Report};
pub use decision::{Decision, Verdict};
pub use diagnostic::{Diagnostic, Severity, nearest};
pub use facts::{Fact, FactSet};
pub use limit::Rate;
pub use limits::{Lease, LimitKnobs, Limits};
pub use list::Kind;
pub use networks::{Networks, parse_network};
pub use reference::{reference, schema};
pub use rules::{Builtins, Files, NoFiles, Policy, Rule, RuleId};
pub use session::{Authentication, FactError, Session};
pub use stage::Stage;
pub use state::{ClientFacts, Load, TlsFacts};
pub use trace::{Part, RuleTrace, StageTrace, Trace};
pub use value::{Given, Type, Value};
