//! Who may ask, and for what: the token, the names under which the listener may be called, and where a change may come from.
//!
//! A page from elsewhere that a browser shows on an administrator's machine can send requests here, under a name of its own
//! that leads here (DNS rebinding) or with the browser's passwords (cross-site requests). So a request must name this
//! machine by an address or a known name, and a change must come from a page of ours or from no page at all. Nothing is
//! ever allowed to pages from elsewhere (no CORS). How it fails: every refusal is a [`Problem`] with its status.

use super::Setup;
use crate::control::api::Problem;
use crate::gateway::networks::Networks;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A token that is shorter can be guessed.
const TOKEN_OCTETS_MIN: usize = 16;
/// Said by browsers about where a request comes from (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// By which way a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The socket of the data directory.
    Unix,
    /// HTTP on loopback.
    Plain,
    /// HTTPS.
    Secure {
        /// The client has shown a certificate of the authority.
        certified: bool,
    },
}

/// The secret that clients show.
#[derive(Clone)]
pub struct Token(Arc<Zeroizing<Vec<u8>>>);

impl Token {
    /// Reads it from a file.
    pub fn read(path: &Path) -> Result<Token, String> {
        let fail = |what: String| format!("admin.token_file: {}: {what}", path.display());
        let text = std::fs::read(path).map(Zeroizing::new).map_err(|e| fail(e.to_string()))?;
        Token::new(text.trim_ascii()).ok_or_else(|| {
            fail(format!(
                "it has {} octets; expected {TOKEN_OCTETS_MIN} or more, such as `openssl rand -hex 20` prints",
                text.trim_ascii().len()
            ))
        })
    }

    fn new(octets: &[u8]) -> Option<Token> {
        (octets.len() >= TOKEN_OCTETS_MIN).then(|| Token(Arc::new(Zeroizing::new(octets.to_vec()))))
    }

    /// Whether `Authorization` shows it: as a bearer token (RFC 6750 §2.1), or as the password of Basic (RFC 7617), which is what
    /// browsers can do.
    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()) else { return false };
        let Some((scheme, shown)) = value.split_once(' ') else { return false };
        let shown = shown.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return verify_slices_are_equal(shown.as_bytes(), &self.0).is_ok();
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let Ok(pair) = STANDARD.decode(shown).map(Zeroizing::new) else { return false };
        let Some(colon) = pair.iter().position(|octet| *octet == b':') else { return false };
        verify_slices_are_equal(&pair[colon + 1..], &self.0).is_ok()
    }
}

/// See the module's head.
pub struct Guard {
    token: Option<Token>,
    names: Vec<String>,
    allow: Networks,
}

impl Guard {
    pub fn new(setup: &Setup, token: Option<Token>) -> Guard {
        let own = [String::from("localhost"), setup.hostname.to_ascii_lowercase()];
        let more = setup.knobs.names.iter().map(|name| name.to_ascii_lowercase());
        Guard { token, names: own.into_iter().chain(more).collect(), allow: setup.knobs.allow.clone() }
    }

    /// Whether anything is answered to this address.
    pub fn admits(&self, ip: IpAddr) -> bool {
        self.allow.is_empty() || self.allow.contains(ip)
    }

    /// Whether the request may be answered at all.
    pub fn check(&self, door: Door, headers: &HeaderMap) -> Result<(), Problem> {
        if door == Door::Unix {
            return Ok(());
        }
        self.check_host(headers)?;
        match door {
            Door::Secure { certified: false } if !self.token.as_ref().is_some_and(|token| token.is_shown(headers)) => {
                let message = "show the token of admin.token_file (Authorization: Bearer TOKEN)";
                Err(Problem { status: 401, code: "unauthorized", message: message.into() })
            }
            _ => Ok(()),
        }
    }

    /// The name by which we were called must be ours; an address cannot be made to lead elsewhere.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers.get(HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let name = host_name(host);
        let known = name.parse::<IpAddr>().is_ok() || self.names.contains(&name.to_ascii_lowercase());
        if known && headers.get_all(HOST).iter().count() == 1 {
            return Ok(());
        }
        let message = format!("{host:?} is no name of this server; admin.names can add it");
        Err(Problem { status: 421, code: "wrong-host", message })
    }

    /// Whether a request that has a body, or changes something, may do so.
    pub fn check_post(&self, door: Door, headers: &HeaderMap, changes: bool) -> Result<(), Problem> {
        if door == Door::Unix {
            return Ok(());
        }
        if changes && door == Door::Plain {
            let message =
                "the admin listener is for reading only; set admin.token_file, or use the command line on the machine";
            return Err(Problem { status: 403, code: "read-only", message: message.into() });
        }
        let text = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?").to_owned());
        let foreign =
            || Problem { status: 403, code: "cross-site", message: "pages from elsewhere may not ask for this".into() };
        if text(SEC_FETCH_SITE).is_some_and(|site| !matches!(site.as_str(), "same-origin" | "none")) {
            return Err(foreign());
        }
        if let Some(origin) = text(ORIGIN) {
            let scheme = if door == Door::Plain { "http" } else { "https" };
            let host = text(HOST).unwrap_or_default();
            if !origin.eq_ignore_ascii_case(&format!("{scheme}://{host}")) {
                return Err(foreign());
            }
        }
        // A form of a page from elsewhere cannot send this type without asking first, and the answer is no.
        let kind = text(CONTENT_TYPE).unwrap_or_default();
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            let message = format!("expected Content-Type: application/json, found {kind:?}");
            return Err(Problem { status: 415, code: "invalid", message });
        }
        Ok(())
    }
}

/// The name or address in a `Host` field, without port and brackets.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(address, _)| address);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::admin::AdminKnobs;

    fn guard(token: Option<&str>) -> Guard {
        let knobs = AdminKnobs { names: vec!["Mail.Example.Org".into()], ..AdminKnobs::default() };
        let setup = Setup { knobs, hostname: "mx.example.test".into(), certificate: None };
        Guard::new(&setup, token.map(|t| Token::new(t.as_bytes()).unwrap()))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn status(result: Result<(), Problem>) -> u16 {
        result.err().map_or(200, |problem| problem.status)
    }

    #[test]
    fn only_names_of_ours_are_answered() {
        let guard = guard(None);
        let called = |host: &str| status(guard.check(Door::Plain, &headers(&[("host", host)])));
        for host in [
            "127.0.0.1:2580",
            "localhost:2580",
            "[::1]:2580",
            "[::1]",
            "mail.example.org",
            "MX.example.test:1",
            "192.0.2.1",
        ] {
            assert_eq!(called(host), 200, "{host}");
        }
        for host in [
            "evil.example:2580",
            "localhost.evil.example",
            "",
            "[evil]:1",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
        ] {
            assert_eq!(called(host), 421, "{host}");
        }
        assert_eq!(status(guard.check(Door::Plain, &headers(&[]))), 421);
        let mut two = headers(&[("host", "localhost")]);
        two.append("host", "evil.example".parse().unwrap());
        assert_eq!(status(guard.check(Door::Plain, &two)), 421);
        assert_eq!(status(guard.check(Door::Unix, &headers(&[("host", "anything")]))), 200);
    }

    #[test]
    fn the_token_is_asked_for() {
        let guard = guard(Some("0123456789abcdef"));
        let shown = |value: &str| {
            let headers = headers(&[("host", "localhost"), ("authorization", value)]);
            status(guard.check(Door::Secure { certified: false }, &headers))
        };
        assert_eq!(shown("Bearer 0123456789abcdef"), 200);
        assert_eq!(shown("bearer  0123456789abcdef"), 200);
        assert_eq!(shown(&format!("Basic {}", STANDARD.encode("anybody:0123456789abcdef"))), 200);
        for wrong in ["Bearer 0123456789abcdeg", "Bearer", "Bearer ", "Digest x", "Basic !!", "0123456789abcdef"] {
            assert_eq!(shown(wrong), 401, "{wrong}");
        }
        assert_eq!(shown(&format!("Basic {}", STANDARD.encode("0123456789abcdef"))), 401);
        let bare = headers(&[("host", "localhost")]);
        assert_eq!(status(guard.check(Door::Secure { certified: false }, &bare)), 401);
        assert_eq!(status(guard.check(Door::Secure { certified: true }, &bare)), 200);
        assert!(Token::new(b"short").is_none());
    }

    #[test]
    fn changes_come_from_here() {
        let guard = guard(Some("0123456789abcdef"));
        let json = ("content-type", "application/json; charset=utf-8");
        let host = ("host", "localhost:1");
        let secure = Door::Secure { certified: true };
        let asked =
            |door, pairs: &[(&'static str, &str)], changes| status(guard.check_post(door, &headers(pairs), changes));
        assert_eq!(asked(secure, &[host, json], true), 200);
        assert_eq!(
            asked(secure, &[host, json, ("origin", "https://localhost:1"), ("sec-fetch-site", "same-origin")], true),
            200
        );
        assert_eq!(asked(secure, &[host, json, ("origin", "https://evil.example")], true), 403);
        assert_eq!(asked(secure, &[host, json, ("origin", "http://localhost:1")], true), 403);
        assert_eq!(asked(secure, &[host, json, ("origin", "null")], true), 403);
        assert_eq!(asked(secure, &[host, json, ("sec-fetch-site", "cross-site")], true), 403);
        assert_eq!(asked(secure, &[host, ("content-type", "text/plain")], true), 415);
        assert_eq!(asked(Door::Plain, &[host, json], true), 403);
        assert_eq!(asked(Door::Plain, &[host, json, ("origin", "http://localhost:1")], false), 200);
        assert_eq!(asked(Door::Plain, &[host, json, ("sec-fetch-site", "same-site")], false), 403);
        assert_eq!(asked(Door::Unix, &[], true), 200);
    }
}
