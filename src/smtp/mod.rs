//! SMTP and LMTP as machines: server and client.
