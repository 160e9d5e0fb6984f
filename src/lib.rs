//! Gatepost: the gate in front of a mail server. The rooms and their arrows are in `ARCHITECTURE.md`.

pub mod base;
pub mod control;
pub mod gateway;
pub mod imap;
pub mod log;
pub mod lookup;
pub mod mailstore;
pub mod policy;
pub mod pop3;
pub mod reactor;
pub mod relay;
pub mod sasl;
pub mod smtp;
pub mod spool;
pub mod wire;
