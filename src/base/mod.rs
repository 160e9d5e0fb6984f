//! What every room shares: time as a value, ids, byte buffers, bodies, addresses, the envelope with its one codec,
//! knobs and the proof values. Pure: no network, file, thread or clock.
//!
//! How it fails: decoding returns [`codec::CodecError`]; everything else is total.

pub mod address;
pub mod body;
pub mod buf;
pub mod codec;
pub mod envelope;
pub mod id;
pub mod inquiry;
pub mod knob;
pub mod mailbox;
pub mod proof;
pub mod queue;
pub mod scram;
pub mod time;
pub mod tls;
#[cfg(test)]
pub mod trace;
pub mod wheel;
