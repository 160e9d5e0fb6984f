//! The catalogue: every status line the POP3 server speaks, one function each, with its response code (RFC 2449 §8,
//! RFC 3206, RFC 6856 §5). No other file of the server has a reply in it.
//!
//! How it fails: it does not; text from elsewhere is cleaned and cut by [`Response::emit`].

use crate::base::mailbox::ask::StoreError;
use std::borrow::Cow;
use std::fmt;

/// Octets of a status line with its CRLF at most (RFC 2449 §4).
pub const STATUS_OCTETS_MAX: usize = 512;

/// A response code, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Another session holds the maildrop (RFC 2449 §8.1.2).
    InUse,
    /// Too soon after the last login (RFC 2449 §8.1.1).
    LoginDelay,
    /// A fault that is likely to pass (RFC 3206 §4).
    SysTemp,
    /// A fault that needs a person (RFC 3206 §4).
    SysPerm,
    /// The credentials are at fault (RFC 3206 §5).
    Auth,
    /// UTF-8 is needed and was not enabled (RFC 6856 §5).
    Utf8,
}

impl Code {
    /// As the wire has it.
    pub fn text(self) -> &'static str {
        match self {
            Code::InUse => "IN-USE",
            Code::LoginDelay => "LOGIN-DELAY",
            Code::SysTemp => "SYS/TEMP",
            Code::SysPerm => "SYS/PERM",
            Code::Auth => "AUTH",
            Code::Utf8 => "UTF8",
        }
    }
}

/// A status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// `+OK`, else `-ERR`.
    pub positive: bool,
    /// Why, for programs.
    pub code: Option<Code>,
    /// What follows, for people.
    pub text: Cow<'static, str>,
}

impl Response {
    fn ok(text: impl Into<Cow<'static, str>>) -> Response {
        Response { positive: true, code: None, text: text.into() }
    }

    fn err(code: Option<Code>, text: impl Into<Cow<'static, str>>) -> Response {
        Response { positive: false, code, text: text.into() }
    }

    /// Appends the line as the wire has it.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(if self.positive { b"+OK" } else { b"-ERR" });
        if let Some(code) = self.code {
            out.extend_from_slice(b" [");
            out.extend_from_slice(code.text().as_bytes());
            out.push(b']');
        }
        if !self.text.is_empty() {
            out.push(b' ');
        }
        let room = STATUS_OCTETS_MAX - 2 - (out.len() - begin);
        let text = &self.text[..self.text.floor_char_boundary(room)];
        out.extend(text.bytes().map(|b| if b < b' ' || b == 0x7f { b'?' } else { b }));
        out.extend_from_slice(b"\r\n");
    }
}

impl fmt::Display for Response {
    /// On one line, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.positive { "+OK" } else { "-ERR" })?;
        if let Some(code) = self.code {
            write!(f, " [{}]", code.text())?;
        }
        write!(f, " {}", self.text)
    }
}

/// Declares replies of fixed text.
macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident = $sign:tt $([$code:ident])? $text:literal;)+) => {
        $($(#[$doc])* pub fn $name() -> Response {
            #[allow(unused_mut, unused_assignments)] // not every reply has a code
            let mut code = None;
            $(code = Some(Code::$code);)?
            Response { positive: replies!(@ $sign), code, text: Cow::Borrowed($text) }
        })+
    };
    (@ +) => { true };
    (@ -) => { false };
}

replies! {
    /// QUIT, RFC 1939 §4 and §6
    bye = + "bye";
    /// CAPA, RFC 2449 §5
    capabilities = + "capabilities follow";
    /// NOOP, RFC 1939 §5
    noop = + "nothing done";
    /// USER, RFC 1939 §7: the same for every name, so that nobody learns who exists
    send_password = + "send PASS";
    /// UIDL, RFC 1939 §7
    unique_ids = + "unique ids follow";
    /// TOP, RFC 1939 §7
    top = + "the top of the message follows";
    /// STLS, RFC 2595 §4
    begin_tls = + "begin TLS";
    /// UTF8, RFC 6856 §2
    utf8_enabled = + "UTF-8 from here on";
    /// LANG without argument, RFC 6856 §3
    languages = + "languages follow";
    /// LANG, RFC 6856 §3: the text begins with the language's tag
    language_set = + "en responses are in English";
    /// AUTH without argument, RFC 1734 as clients still use it
    mechanisms = + "mechanisms follow";

    // What the client did wrong.
    /// An unknown verb
    unknown_command = - "unknown command";
    /// A line with nothing on it
    empty_line = - "expected a command";
    /// More than 255 octets without a line end, RFC 2449 §4
    line_too_long = - "the line is too long";
    /// A control character in a line
    control_character = - "control characters cannot be in a command";
    /// Octets that are neither ASCII nor UTF-8
    not_utf8 = - "the line is not UTF-8";
    /// A user name or password beyond ASCII before UTF8, RFC 6856 §2
    utf8_first = - [Utf8] "send UTF8 before names and passwords beyond ASCII";
    /// A request of another protocol
    foreign_protocol = - "this is POP3";
    /// A command of the TRANSACTION state, RFC 1939 §4
    login_first = - "log in first";
    /// A command of the AUTHORIZATION state, RFC 1939 §5
    logged_in = - "you are logged in already";
    /// Not a message number, or none of a message that is there and not deleted, RFC 1939 §5
    no_such_message = - "no such message";
    /// RFC 1939 §5
    not_a_number = - "expected the number of a message";
    /// RFC 1939 §5
    already_deleted = - "the message is deleted already";
    /// The message went away under another session
    expunged = - "the message has been expunged by another session";
    /// More offences than `errors_max`
    too_many_errors = - "too many errors";
    /// More commands than `commands_before_login_max`
    too_many_commands = - "too many commands without login";

    // Logging in.
    /// PASS or RPOP without USER, RFC 1939 §7
    user_first = - "send USER first";
    /// APOP where the greeting had no timestamp, RFC 1939 §7
    apop_not_offered = - "APOP is not offered here";
    /// APOP with something that is no digest
    apop_syntax = - "expected APOP name digest, the digest in 32 hexadecimal digits";
    /// Credentials are wrong, or there is no such user
    auth_invalid = - [Auth] "authentication failed";
    /// A password on an unprotected wire
    auth_needs_tls = - [Auth] "passwords are taken under TLS only: send STLS first, or connect to the TLS port";
    /// The same where no TLS can be had
    auth_needs_protection = - [Auth] "passwords are not taken on this connection";
    /// An unknown mechanism, RFC 5034 §4
    mechanism_unknown = - "the mechanism is not offered here";
    /// A line that is no base64, RFC 5034 §4
    not_base64 = - "the response is not base64";
    /// `*`, RFC 5034 §4
    auth_cancelled = - "authentication cancelled";
    /// RFC 5034 §4
    auth_line_too_long = - "the authentication line is too long";
    /// The exchange broke its mechanism's grammar
    auth_malformed = - [Auth] "the authentication message is malformed";
    /// Nobody can tell now
    auth_unavailable = - [SysTemp] "accounts cannot be checked now";
    /// More failed logins than `auth_failures_max`
    too_many_auth_failures = - [Auth] "too many failed logins";
    /// RPOP from a host that is not listed or from an ordinary port, RFC 1081
    rpop_not_offered = - [Auth] "RPOP is not for this host and port";
    /// The maildrop lock is taken, RFC 1939 §4, RFC 2449 §8.1.2
    in_use = - [InUse] "another session has the maildrop open";

    // TLS.
    /// STLS where there is no TLS, RFC 2595 §4
    tls_not_offered = - "TLS is not offered here";
    /// STLS under TLS, RFC 2595 §4
    tls_active = - "TLS is in force already";
    /// STLS after UTF8, RFC 6856 §2
    tls_after_utf8 = - "send STLS before UTF8";

    // Our side.
    /// The service ends
    shutting_down = - [SysTemp] "the service is shutting down";
    /// A fault of ours
    local_error = - [SysTemp] "local error";
    /// A message with header text beyond ASCII to a client that did not say UTF8, RFC 6856 §4
    message_needs_utf8 = - [Utf8] "the header of the message is UTF-8: send UTF8 before you log in";
    /// LANG with a language we do not speak, RFC 6856 §3
    language_unknown = - "the language is not offered here";
}

/// The greeting (RFC 1939 §4), with the timestamp of APOP where that is offered (§7).
pub fn greeting(hostname: &str, timestamp: Option<&str>) -> Response {
    let end = timestamp.map(|t| format!(" {t}")).unwrap_or_default();
    Response::ok(format!("{hostname} POP3 Gatepost ready{end}"))
}

/// What the maildrop has: after login, and RSET (RFC 1939 §5, §7).
pub fn maildrop(messages: u32, octets: u64) -> Response {
    Response::ok(format!("{messages} messages ({octets} octets)"))
}

/// STAT (RFC 1939 §5): the form of this line is fixed.
pub fn stat(messages: u32, octets: u64) -> Response {
    Response::ok(format!("{messages} {octets}"))
}

/// LIST with an argument (RFC 1939 §5).
pub fn scan_listing(message: u32, octets: u64) -> Response {
    Response::ok(format!("{message} {octets}"))
}

/// UIDL with an argument (RFC 1939 §7).
pub fn unique_id(message: u32, id: &str) -> Response {
    Response::ok(format!("{message} {id}"))
}

/// RETR (RFC 1939 §5).
pub fn octets(octets: u64) -> Response {
    Response::ok(format!("{octets} octets"))
}

/// DELE (RFC 1939 §5).
pub fn deleted(message: u32) -> Response {
    Response::ok(format!("message {message} deleted"))
}

/// LAST (RFC 1081).
pub fn last(message: u32) -> Response {
    Response::ok(message.to_string())
}

/// QUIT after the deletions were made (RFC 1939 §6).
pub fn bye_deleted(messages: u64) -> Response {
    Response::ok(format!("bye, {messages} messages deleted"))
}

/// Arguments that do not fit the command; `usage` is how it is used.
pub fn usage(usage: &'static str) -> Response {
    Response::err(None, format!("expected {usage}"))
}

/// A login that somebody else refuses; `why` may begin with a response code of its own, as `[LOGIN-DELAY] …` does.
pub fn login_refused(why: String) -> Response {
    Response::err(None, why)
}

/// The text for [`login_refused`] of a login that came too soon (RFC 2449 §8.1.1).
pub fn login_delay_text(seconds: u64) -> String {
    format!("[{}] wait {seconds} seconds between logins", Code::LoginDelay.text())
}

/// The store could not do it.
pub fn store_failed(error: &StoreError) -> Response {
    let code = match error {
        StoreError::Expunged => return expunged(),
        StoreError::NoSuchMailbox | StoreError::Gone | StoreError::NoSuchAccount => Code::SysPerm,
        _ => Code::SysTemp,
    };
    Response::err(Some(code), error.to_string())
}

/// QUIT whose deletions could not be made: all of them are still there (RFC 1939 §6).
pub fn nothing_deleted(error: &StoreError) -> Response {
    let code = store_failed(error).code.unwrap_or(Code::SysTemp);
    Response::err(Some(code), format!("nothing was deleted: {error}"))
}

/// `+ challenge` (RFC 5034 §4).
pub fn challenge(base64: &str) -> Vec<u8> {
    format!("+ {base64}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(response: &Response) -> String {
        let mut out = Vec::new();
        response.emit(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_cannot_end_a_line_early_and_is_cut() {
        assert_eq!(line(&login_refused("[LOGIN-DELAY] no\r\n+OK".into())), "-ERR [LOGIN-DELAY] no??+OK\r\n");
        assert_eq!(line(&in_use()), "-ERR [IN-USE] another session has the maildrop open\r\n");
        let long = line(&login_refused("ü".repeat(400)));
        assert!(long.len() <= STATUS_OCTETS_MAX && long.ends_with("ü\r\n"), "{}", long.len());
    }

    #[test]
    fn what_the_store_says_has_its_code() {
        assert_eq!(store_failed(&StoreError::Gone).code, Some(Code::SysPerm));
        assert_eq!(store_failed(&StoreError::Busy).code, Some(Code::SysTemp));
        assert_eq!(store_failed(&StoreError::Expunged), expunged());
        assert!(line(&nothing_deleted(&StoreError::DiskFull)).starts_with("-ERR [SYS/TEMP] nothing was deleted: "));
    }
}
