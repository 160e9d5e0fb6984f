//! Bytes to valid values and back: framing, grammar, addresses, the catalogue of replies. No state, no I/O.
//!
//! How it fails: parsers return errors that name the offence; emitters are total.

pub mod address;
pub mod command;
pub mod data;
pub mod header;
pub mod imap;
pub mod mime;
pub mod params;
pub mod pop3;
pub mod prep;
pub mod proxy;
pub mod replies;
pub mod reply;
pub mod response;
pub mod xtext;
