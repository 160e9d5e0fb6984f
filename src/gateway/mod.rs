//! Wires the rooms: cores, lanes, listeners, the life of a message, reload, shutdown.

pub mod admin;
pub mod config;
pub mod networks;
pub mod targets;
