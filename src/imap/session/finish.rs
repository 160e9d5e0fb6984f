//! The end of a command: untagged updates where they are allowed, then the tagged answer, then the next command.
//!
//! How it fails: updates that cannot be had now are had at the end of the next command.

use super::{Leaving, Session};
use crate::base::mailbox::{ModSeq, Uid};
use crate::imap::config::LINES_AT_ONCE_MAX;
use crate::imap::respond::Words;
use crate::imap::state::{Phase, State};

/// Which untagged updates may come before a tagged answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::imap) enum Updates {
    /// All but EXPUNGE: FETCH, STORE, SEARCH, SORT and THREAD by sequence number (RFC 9051 §7.5.1, RFC 5256 §3).
    NoExpunge,
    /// All.
    All,
}

/// How a command ends.
#[derive(Debug)]
pub(in crate::imap) struct Ending {
    tag: String,
    words: Words,
    updates: Updates,
    /// Look for updates though nobody said there were any.
    force: bool,
    /// Changes the client has been told of already.
    told: Vec<(Uid, ModSeq)>,
}

impl Ending {
    /// With these words, with whatever updates are known to wait.
    pub fn new(tag: String, words: impl Into<Words>) -> Ending {
        Ending { tag, words: words.into(), updates: Updates::All, force: false, told: Vec::new() }
    }
    /// Which updates may come.
    pub fn updates(self, updates: Updates) -> Ending {
        Ending { updates, ..self }
    }
    /// Look for updates.
    pub fn forced(self) -> Ending {
        Ending { force: true, ..self }
    }
    /// These changes are no news.
    pub fn told(self, told: Vec<(Uid, ModSeq)>) -> Ending {
        Ending { told, ..self }
    }
}

impl Session {
    /// Ends a command.
    pub(in crate::imap) fn finish(&mut self, ending: Ending) {
        let expunge = ending.updates == Updates::All;
        let (force, told) = (ending.force, ending.told);
        let (tag, words) = (ending.tag, ending.words);
        self.update(expunge, force, told, move |s| s.answer(&tag, &words));
    }

    /// Ends a command with OK.
    pub(in crate::imap) fn ok(&mut self, tag: String, text: &str) {
        self.finish(Ending::new(tag, format!("OK {text}")));
    }

    /// Ends a command that was malformed or out of place.
    pub(in crate::imap) fn bad(&mut self, tag: Option<String>, words: &str) {
        match tag {
            Some(tag) => self.answer(&tag, words),
            None => self.answer("*", words),
        }
    }

    /// The tagged answer, and on to the next command.
    fn answer(&mut self, tag: &str, words: &str) {
        self.out.say(tag);
        self.out.say(" ");
        self.out.line(words);
        if words.starts_with("BAD") {
            self.counters.errors += 1;
            if self.counters.errors > self.settings.knobs.errors_max {
                return self.bye("too many errors");
            }
        }
        if self.leaving == Leaving::Shutdown {
            return self.bye("the server is going down");
        }
        let waiting = matches!(self.state, State::NotAuthenticated);
        if waiting && self.counters.commands > u64::from(self.settings.knobs.login_commands_max) {
            return self.bye("too many commands before login");
        }
        self.phase = Phase::Command;
    }

    /// On with IDLE.
    pub(in crate::imap) fn wait_for_done(&mut self, tag: String) {
        if self.leaving == Leaving::Shutdown {
            return self.bye("the server is going down");
        }
        self.phase = Phase::Idle { tag };
    }

    /// Writes what may be many lines, no more at a time than the client takes, then goes on.
    pub(in crate::imap) fn each<I, W, F>(&mut self, mut items: I, write: W, then: F)
    where
        I: Iterator + Send + 'static,
        W: Fn(&mut Session, I::Item) + Send + 'static,
        F: FnOnce(&mut Session) + Send + 'static,
    {
        items.by_ref().take(LINES_AT_ONCE_MAX).for_each(|item| write(self, item));
        match items.next() {
            None => then(self),
            Some(item) => {
                write(self, item);
                self.phase = Phase::Drain(Box::new(move |s| s.each(items, write, then)));
            }
        }
    }
}
