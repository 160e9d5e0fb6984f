//! Outbound decisions: which route, which backend, which MX host, whom to believe, what to report. Decides, never dials;
//! time, randomness and records are arguments.
//!
//! How it fails: what can never be delivered is a [`Reply`](crate::wire::reply::Reply) to give in its place; the rest is
//! total.

pub mod bounce;
pub mod knobs;
pub mod loops;
pub mod mx;
pub mod pool;
pub mod route;
pub mod verify;
