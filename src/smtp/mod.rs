//! SMTP and LMTP as machines: server and client.

pub mod client;
