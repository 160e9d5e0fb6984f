//! Configuration, command line, admin API, metrics, dashboard, logs: what stands between an administrator and the gateway.
//!
//! The configuration goes `reader` (TOML to knobs, with spans) → `config` (sections, flags) → `resolve` (what must
//! hold between sections) → `gateway::config::Config`. How it fails: every problem of a file is a
//! [`diagnostic::Diagnostic`] with file, line and column, all of them at once; everything else is one line on stderr
//! and exit code 1, wrong usage exit code 2.

pub mod account;
mod acme;
pub mod admin;
pub mod alias;
pub mod api;
pub mod check;
pub mod cli;
pub mod config;
pub mod consult;
pub mod diagnostic;
mod documents;
mod first_start;
mod handover;
pub mod http;
pub mod journal;
pub mod lock;
pub mod log;
pub mod lookup;
pub mod mailbox;
pub mod metrics;
pub mod nearest;
pub mod policy;
pub mod queue;
pub mod reader;
pub mod reference;
pub mod replay;
pub mod resolve;
pub mod schema;
pub mod sections;
pub mod serve;
pub mod session;
pub mod shadow;
pub mod status;
pub mod table;
pub mod tail;
pub mod top;
pub mod tune;
mod upgrade;
mod walls;
mod when;
