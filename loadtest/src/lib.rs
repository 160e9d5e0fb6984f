//! A load generator, sink and ledger for mail servers, and the measuring of servers side by side.
//!
//! `gatepost-load` is honest by construction: latency counts from the time a message *should* have started, every message
//! carries an id and a checksum that sender and sink write down, the sink is cheap enough not to be the limit, and a run
//! says when the harness itself was. Everything runs on the gateway's own reactor, one thread per core.
//!
//! How it fails: a run that cannot start says why in one line; trouble with single connections is counted and reported
//! with the results, since that is what a load test is for.

pub mod attack;
pub mod capacity;
pub mod chance;
pub mod cli;
mod cli_read;
pub mod client;
pub mod compare;
pub mod corpus;
pub mod header;
pub mod html;
pub mod ledger;
pub mod live;
pub mod mailstore;
pub mod message;
mod pingpong;
pub mod proc;
pub mod read;
pub mod report;
pub mod scenario;
pub mod send;
pub mod sink;
pub mod size;
pub mod stop;
mod table;
pub mod target;
