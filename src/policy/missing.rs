//! Facts that a recording could not tell. Conditions see them as unknown, and it is noted when one of them mattered: a
//! decision that hangs on such a fact is undecided, never guessed.
//!
//! A live session misses nothing; all questions here are then answered by one test. How it fails: it does not.

use super::facts::{FactId, all};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::LazyLock;

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Missing {
    /// Facts that nobody knows, by number.
    facts: u128,
    /// Facts that are known as digests only: no condition may see them, keys of limits may.
    masked: u128,
    /// Names of header fields whose text is not there.
    texts: Vec<String>,
    /// There may be more header fields than are known.
    fields: bool,
    /// What was not found out then may have a value all the same: nobody asked.
    unasked: bool,
    asked: Cell<u128>,
    asked_header: Cell<bool>,
    asked_call: Cell<bool>,
    doubt: Cell<Option<Doubt>>,
}

/// The first rule of a decision that may have decided otherwise, had more been known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Its index in the policy.
    pub rule: u32,
    /// The fact that is missing; `None` is a header field, or what a list or helper said.
    pub fact: Option<FactId>,
    /// It is what a list or helper said.
    pub call: bool,
}

impl Doubt {
    /// What is missing.
    pub fn word(&self) -> &'static str {
        match (self.fact, self.call) {
            (Some(fact), _) => fact.row().name,
            (None, true) => "what a list or helper said",
            (None, false) => "a header field",
        }
    }
}

impl Missing {
    /// The fact is not known; those that follow from it are not either (`helo.valid` from `helo`).
    pub fn add(&mut self, name: &str) {
        self.facts |= numbers(name);
    }
    /// The fact is known from now on.
    pub fn remove(&mut self, name: &str) {
        self.facts &= !numbers(name);
    }
    /// What nobody found out is missing.
    pub fn miss_unasked(&mut self) {
        self.unasked = true;
    }
    /// Whether it is.
    pub fn misses_unasked(&self) -> bool {
        self.unasked
    }
    /// A condition wants a fact that nobody has found out.
    #[inline]
    pub fn unheard(&self, id: FactId) {
        if self.unasked {
            self.asked.set(self.asked.get() | 1 << id.0);
        }
    }
    /// The same of a function of a name.
    #[inline]
    pub fn unheard_call(&self) {
        if self.unasked {
            self.asked_call.set(true);
        }
    }
    /// Persons are digests.
    pub fn mask_persons(&mut self) {
        for name in ["sender", "sender.local", "rcpt", "rcpt.local", "user", "vrfy.argument"] {
            self.masked |= FactId::find(name).map_or(0, |id| 1 << id.0);
        }
    }
    /// What is not known of the header section that comes now.
    pub fn headers<'n>(&mut self, texts: impl Iterator<Item = &'n str>, fields: bool) {
        self.texts.clear();
        self.texts.extend(texts.map(str::to_owned));
        self.fields = fields;
    }

    /// Whether conditions may not see the fact.
    #[inline]
    pub fn hides(&self, id: FactId) -> bool {
        let hidden = (self.facts | self.masked) >> id.0 & 1 == 1;
        if hidden {
            self.asked.set(self.asked.get() | 1 << id.0);
        }
        hidden
    }
    /// Whether the fact cannot even be part of a key.
    pub fn is_unkeyed(&self, id: FactId) -> bool {
        let unknown = self.facts >> id.0 & 1 == 1;
        if unknown {
            self.asked.set(self.asked.get() | 1 << id.0);
        }
        unknown
    }
    /// Whether the text of the field of this name is not there.
    pub fn hides_text(&self, name: &str) -> bool {
        let hidden = self.texts.iter().any(|t| t.eq_ignore_ascii_case(name));
        if hidden {
            self.asked_header.set(true);
        }
        hidden
    }
    /// Whether there may be fields that are not known.
    pub fn hides_fields(&self) -> bool {
        if self.fields {
            self.asked_header.set(true);
        }
        self.fields
    }

    /// A rule did not apply. If something missing was asked for and the rule `could_hold` whatever that is, it is in doubt.
    #[inline]
    pub fn doubt_if(&self, rule: u32, could_hold: impl FnOnce() -> bool) {
        if !self.was_asked() {
            return;
        }
        let (asked, header, call) = (self.asked.get(), self.asked_header.get(), self.asked_call.get());
        if !could_hold() {
            return self.settle();
        }
        self.asked.set(asked);
        self.asked_header.set(header);
        self.asked_call.set(call);
        self.doubt(rule);
    }
    /// A rule did not apply; if something missing was asked for, that is why.
    #[inline]
    pub fn doubt(&self, rule: u32) {
        if !self.was_asked() {
            return;
        }
        if self.doubt.get().is_none() {
            let fact = (self.asked.get() != 0).then(|| FactId(self.asked.get().trailing_zeros() as u16));
            self.doubt.set(Some(Doubt { rule, fact, call: self.asked_call.get() }));
        }
        self.settle();
    }
    /// Whether something missing was asked for since the last rule.
    pub fn was_asked(&self) -> bool {
        self.asked.get() != 0 || self.asked_header.get() || self.asked_call.get()
    }
    /// What was asked did not matter.
    #[inline]
    pub fn settle(&self) {
        self.asked.set(0);
        self.asked_header.set(false);
        self.asked_call.set(false);
    }
    /// Whether the decision is in doubt; asking forgets it.
    pub fn take_doubt(&self) -> Option<Doubt> {
        self.settle();
        self.doubt.take()
    }
}

/// The fact of this name and those that follow from it.
fn numbers(name: &str) -> u128 {
    // A replay asks this for every fact of every session.
    static KNOWN: LazyLock<HashMap<&'static str, u128>> =
        LazyLock::new(|| all().iter().map(|f| (f.name, numbers_anew(f.name))).collect());
    KNOWN.get(name).copied().unwrap_or_else(|| numbers_anew(name))
}

fn numbers_anew(name: &str) -> u128 {
    let follows = |other: &str| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    // `client` is the address; port and name are told apart from it, as are recipients' counts.
    let family = matches!(name, "helo" | "tls" | "load" | "sender" | "message" | "session" | "auth");
    let computed = |input: Option<&str>| input == Some(name);
    all()
        .iter()
        .enumerate()
        .filter(|(_, f)| f.name == name || family && follows(f.name) || computed(f.input))
        .fold(0, |set, (i, _)| set | 1 << i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_noticed_when_it_matters() {
        let id = |name| FactId::find(name).unwrap();
        let mut missing = Missing::default();
        assert!(!missing.hides(id("helo")) && missing.take_doubt().is_none());
        missing.add("helo");
        assert!(missing.hides(id("helo.valid")) && !missing.hides(id("client.port")));
        missing.doubt(3);
        missing.doubt(4);
        assert_eq!(missing.take_doubt(), Some(Doubt { rule: 3, fact: Some(id("helo.valid")), call: false }));
        assert!(missing.hides(id("helo")));
        missing.settle();
        missing.doubt(5);
        assert_eq!(missing.take_doubt(), None);
        missing.remove("helo");
        missing.mask_persons();
        assert!(missing.hides(id("user")) && !missing.is_unkeyed(id("user")) && !missing.hides(id("sender.null")));
        missing.headers(["subject"].into_iter(), false);
        assert!(missing.hides_text("Subject") && !missing.hides_text("to") && !missing.hides_fields());
        missing.add("client.ptr");
        assert!(missing.hides(id("helo.matches_client")));
    }
}
