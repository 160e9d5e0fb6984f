//! What is offered: one row per capability, with when it is offered and the RFC it comes from.
//!
//! How it fails: it does not.

use super::config::LiteralForm;
use super::session::Session;
use super::state::State;
use crate::sasl::line;
use crate::sasl::server::{Context, mechanisms};

/// When a capability is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    LoggedIn,
    /// Until both directions are compressed (RFC 4978 §3).
    Uncompressed,
    LiteralPlus,
    LiteralMinus,
    /// Before login, while STARTTLS can be had.
    StartTls,
    /// Before login, while passwords may not come (RFC 9051 §6.2.3).
    NoLogin,
}

/// A capability the server can offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// As CAPABILITY writes it; what ends in `=` goes on with a value.
    pub name: &'static str,
    /// The RFC.
    pub rfc: u32,
    when: When,
}

const fn row(name: &'static str, rfc: u32, when: When) -> Extension {
    Extension { name, rfc, when }
}

const TABLE: &[Extension] = &[
    row("IMAP4rev1", 3501, When::Always),
    row("IMAP4rev2", 9051, When::Always),
    row("STARTTLS", 9051, When::StartTls),
    row("LOGINDISABLED", 9051, When::NoLogin),
    row("SASL-IR", 4959, When::Always),
    row("LITERAL+", 7888, When::LiteralPlus),
    row("LITERAL-", 7888, When::LiteralMinus),
    row("ID", 2971, When::Always),
    row("ENABLE", 5161, When::Always),
    row("IDLE", 2177, When::LoggedIn),
    row("NAMESPACE", 2342, When::LoggedIn),
    row("UIDPLUS", 4315, When::LoggedIn),
    row("MOVE", 6851, When::LoggedIn),
    row("REPLACE", 8508, When::LoggedIn),
    row("UNSELECT", 3691, When::LoggedIn),
    row("CHILDREN", 3348, When::LoggedIn),
    row("LIST-EXTENDED", 5258, When::LoggedIn),
    row("LIST-STATUS", 5819, When::LoggedIn),
    row("SPECIAL-USE", 6154, When::LoggedIn),
    row("CREATE-SPECIAL-USE", 6154, When::LoggedIn),
    row("STATUS=SIZE", 8438, When::LoggedIn),
    row("MULTIAPPEND", 3502, When::LoggedIn),
    row("BINARY", 3516, When::LoggedIn),
    row("CONDSTORE", 7162, When::LoggedIn),
    row("QRESYNC", 7162, When::LoggedIn),
    row("ESEARCH", 4731, When::LoggedIn),
    row("SEARCHRES", 5182, When::LoggedIn),
    row("PARTIAL", 9394, When::LoggedIn),
    row("WITHIN", 5032, When::LoggedIn),
    row("SORT", 5256, When::LoggedIn),
    row("ESORT", 5267, When::LoggedIn),
    row("THREAD=ORDEREDSUBJECT", 5256, When::LoggedIn),
    row("THREAD=REFERENCES", 5256, When::LoggedIn),
    row("QUOTA", 9208, When::LoggedIn),
    row("QUOTA=RES-STORAGE", 9208, When::LoggedIn),
    row("QUOTA=RES-MESSAGE", 9208, When::LoggedIn),
    row("OBJECTID", 8474, When::LoggedIn),
    row("PREVIEW", 8970, When::LoggedIn),
    row("SAVEDATE", 8514, When::LoggedIn),
    row("UTF8=ACCEPT", 6855, When::LoggedIn),
    row("APPENDLIMIT=", 7889, When::LoggedIn),
    row("COMPRESS=DEFLATE", 4978, When::Uncompressed),
];

/// Everything that can be offered, for the support table and tests.
pub fn extensions() -> impl Iterator<Item = &'static Extension> {
    TABLE.iter()
}

/// What decides which mechanisms are offered.
pub(super) fn sasl_context(session: &Session) -> Context {
    line::offer(&session.settings.sasl_mechanisms, session.peer.protected, session.peer.tls.as_ref())
}

/// Whether LOGIN may be used: where PLAIN may.
pub(super) fn login_offered(session: &Session) -> bool {
    mechanisms(&sasl_context(session)).contains(&"PLAIN")
}

/// Whether STARTTLS may be used.
pub(super) fn starttls_offered(session: &Session) -> bool {
    session.settings.tls_available && session.peer.tls.is_none()
}

/// `CAPABILITY IMAP4rev1 …` as it is in this state.
pub(super) fn capability(session: &Session) -> String {
    let fresh = matches!(session.state, State::NotAuthenticated);
    let mut words = String::from("CAPABILITY");
    for row in TABLE {
        let offered = match row.when {
            When::Always => true,
            When::LoggedIn => !fresh,
            When::Uncompressed => !fresh && !session.enabled.deflate,
            When::LiteralPlus => session.settings.knobs.literals == LiteralForm::Plus,
            When::LiteralMinus => session.settings.knobs.literals == LiteralForm::Minus,
            When::StartTls => fresh && starttls_offered(session),
            When::NoLogin => fresh && !login_offered(session),
        };
        if offered {
            words.push(' ');
            words.push_str(row.name);
            if row.name == "APPENDLIMIT=" {
                words.push_str(&session.settings.knobs.append_octets_max.0.to_string());
            }
        }
    }
    if fresh {
        for name in mechanisms(&sasl_context(session)) {
            words.push_str(" AUTH=");
            words.push_str(name);
        }
    }
    words
}
