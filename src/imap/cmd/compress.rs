//! COMPRESS (RFC 4978). How it fails: NO for what is no DEFLATE, NO [COMPRESSIONACTIVE] the second time.

use crate::imap::ask::Ask;
use crate::imap::respond;
use crate::imap::session::{Ending, Session};
use crate::imap::state::Phase;

pub(super) fn run(session: &mut Session, tag: String, algorithm: &str) {
    if session.enabled.deflate {
        let words = respond::no("COMPRESSIONACTIVE", "DEFLATE is active already");
        return session.finish(Ending::new(tag, words));
    }
    if algorithm != "DEFLATE" {
        return session.finish(Ending::new(tag, respond::no("CANNOT", "DEFLATE is what there is")));
    }
    session.enabled.deflate = true;
    session.out.line(&format!("{tag} OK DEFLATE active"));
    session.instruct(Ask::StartDeflate);
    session.phase = Phase::Deflate;
}
