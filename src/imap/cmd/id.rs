//! ID (RFC 2971): who speaks, for the log. How it fails: it does not; what a client says is cut to a bound and believed
//! by nobody.

use crate::imap::config::CLIENT_ID_OCTETS_MAX;
use crate::imap::respond::one_line;
use crate::imap::session::Session;
use crate::wire::imap::emit;

pub(super) fn run(session: &mut Session, tag: String, pairs: &[(String, Option<String>)]) {
    let said = |field: &str| {
        pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(field)).and_then(|(_, value)| value.as_deref())
    };
    let words: Vec<&str> = ["name", "version"].into_iter().filter_map(said).collect();
    if !words.is_empty() {
        let mut client = one_line(&words.join(" "));
        let mut end = client.len().min(CLIENT_ID_OCTETS_MAX);
        while !client.is_char_boundary(end) {
            end -= 1;
        }
        client.truncate(end);
        session.client_id = Some(client.into());
    }
    let version = session.settings.version.clone();
    session.out.say("* ID (\"name\" \"Gatepost\"");
    if let Some(version) = version {
        session.out.say(" \"version\" ");
        emit::string(&mut session.out.text, version.as_bytes(), false);
    }
    session.out.line(")");
    session.ok(tag, "ID completed");
}
