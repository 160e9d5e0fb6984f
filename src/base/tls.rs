//! What is known about a TLS session, as values: the pump (`reactor::tls`) tells it, the machines and the policy read it.
//!
//! How it fails: it does not.

/// Data that ties an authentication to this very TLS session (RFC 5056). A type that is `None` cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelBinding {
    /// `tls-exporter` (RFC 9266 §2): only with TLS 1.3, where exported keys are unique to the session.
    pub tls_exporter: Option<[u8; 32]>,
    /// `tls-server-end-point` (RFC 5929 §4): hash of the server's certificate.
    pub tls_server_end_point: Option<Vec<u8>>,
}

impl ChannelBinding {
    /// Whether no type can be used.
    pub fn is_empty(&self) -> bool {
        self.tls_exporter.is_none() && self.tls_server_end_point.is_none()
    }
    /// The data of the type with this registered name (RFC 5056 §7.1).
    pub fn by_name(&self, name: &str) -> Option<&[u8]> {
        match name {
            "tls-exporter" => self.tls_exporter.as_ref().map(<[u8; 32]>::as_slice),
            "tls-server-end-point" => self.tls_server_end_point.as_deref(),
            _ => None,
        }
    }
    /// The strongest type there is, with its name: the one a client should use.
    pub fn strongest(&self) -> Option<(&'static str, &[u8])> {
        ["tls-exporter", "tls-server-end-point"].into_iter().find_map(|name| Some((name, self.by_name(name)?)))
    }
}

/// A TLS session after its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2`, `TLSv1.3`.
    pub version: &'static str,
    /// Name of the cipher suite, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// Strength of the cipher's key.
    pub cipher_bits: u16,
    /// The name the client asked for (RFC 6066 §3).
    pub sni: Option<String>,
    /// Name in the peer's certificate, when the peer is a client whose certificate was verified: the first rfc822Name of
    /// its subjectAltName, else its common name.
    pub client_identity: Option<String>,
    /// Whether keys of an earlier session were used.
    pub resumed: bool,
    /// For the -PLUS mechanisms of SASL.
    pub channel_binding: ChannelBinding,
}
