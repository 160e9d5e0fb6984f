//! Bytes to valid values and back: framing, grammar, addresses, the catalogue of replies. No state, no I/O.
//!
//! How it fails: parsers return errors that name the offence; emitters are total.

pub mod address;
pub mod reply;
