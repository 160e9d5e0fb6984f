//! Programs outside that are consulted: milters, rspamd, policy services. First scripted ones that do everything wrong a
//! helper can do, then the real ones.
//!
//! How it fails: as the assertions say; a real program that is not here is reported as skipped (`GATEPOST_REQUIRE_PEERS=1`
//! makes that a failure).

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod support;

#[path = "helpers/command.rs"]
mod command;
#[path = "helpers/daemon.rs"]
mod daemon;
#[path = "helpers/fake.rs"]
mod fake;
#[path = "helpers/faults.rs"]
mod faults;
#[path = "helpers/filter.rs"]
mod filter;
#[path = "helpers/milter.rs"]
mod milter;
#[path = "helpers/policy.rs"]
mod policy;
#[path = "helpers/programs.rs"]
mod programs;
#[path = "helpers/real.rs"]
mod real;
#[path = "helpers/rspamd.rs"]
mod rspamd;
