//! Wires the rooms: cores, lanes, listeners, the life of a message, reload, shutdown.

pub mod admin;
pub mod config;
pub mod data;
pub mod networks;
pub mod policy_file;
pub mod queue;
pub mod targets;
