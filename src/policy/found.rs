//! What was found out: values of facts and of functions of a name, each until the greeting, the transaction or the recipient
//! it belongs to is over.
//!
//! A live session is told of a greeting or transaction before it is decided ([`Found::begin`]), so that what is found in
//! between belongs to it. A recording tells the same findings in the same order, but not that beginning: there, what was
//! found since the last decision belongs to the next one. What is told before the first decision (by a case file) stays.
//!
//! How it fails: it does not.

use super::facts::FactId;
use super::stage::Stage;
use super::value::Given;

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Found {
    entries: Vec<Entry>,
    /// Counts decisions; what was found under an earlier number is old.
    mark: u32,
}

#[derive(Clone, Debug)]
struct Entry {
    what: What,
    /// The stage that it becomes known at says how long it lasts.
    since: Stage,
    mark: u32,
    value: Given,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Fact(FactId),
    Call(&'static str, Box<str>),
}

impl Found {
    /// The value of a fact, if it was found out or was tried to be.
    pub fn fact(&self, id: FactId) -> Option<&Given> {
        self.entries.iter().find(|e| matches!(e.what, What::Fact(f) if f == id)).map(|e| &e.value)
    }
    /// The value of a function of a name.
    pub fn call(&self, function: &str, argument: &str) -> Option<&Given> {
        let is = |e: &&Entry| matches!(&e.what, What::Call(f, a) if *f == function && **a == *argument);
        self.entries.iter().find(is).map(|e| &e.value)
    }
    /// Sets a fact.
    pub fn set_fact(&mut self, id: FactId, value: Given) {
        self.set(What::Fact(id), id.row().known.first, value);
    }
    /// Sets the value of a function of a name, which lasts as what becomes known at `since`.
    pub fn set_call(&mut self, function: &'static str, argument: &str, since: Stage, value: Given) {
        self.set(What::Call(function, argument.into()), since, value);
    }
    fn set(&mut self, what: What, since: Stage, value: Given) {
        let entry = Entry { what, since, mark: self.mark, value };
        match self.entries.iter_mut().find(|e| e.what == entry.what) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// A decision was made: what comes now belongs to the next one.
    pub fn decided(&mut self) {
        self.mark = self.mark.saturating_add(1);
    }
    /// What belongs to `stage` begins anew: what is old of it and of later stages is forgotten. Of the recipient's stage,
    /// only what belongs to one recipient.
    pub fn begin(&mut self, stage: Stage) {
        let mark = self.mark;
        let over = |since: Stage| match stage {
            Stage::Rcpt => since == Stage::Rcpt,
            stage => since >= stage,
        };
        // What was told before anything happened is old at no time.
        self.entries.retain(|e| e.mark == mark || e.mark == 0 || !over(e.since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_last_as_long_as_what_they_are_about() {
        let id = |name| FactId::find(name).unwrap();
        let text = |t: &str| Given::Text(t.into());
        let mut found = Found::default();
        found.set_fact(id("dmarc"), text("told before"));
        found.decided();
        found.set_fact(id("client.ptr"), text("a.example"));
        found.set_fact(id("helo.matches"), Given::Flag(true));
        found.begin(Stage::Helo);
        assert!(found.fact(id("helo.matches")).is_some(), "found for the greeting that begins");
        found.decided();
        found.set_fact(id("spf"), text("pass"));
        found.set_call("helper", "x", Stage::Rcpt, text("accept"));
        found.decided();
        found.begin(Stage::Rcpt);
        assert!(found.call("helper", "x").is_none() && found.fact(id("spf")).is_some());
        found.begin(Stage::Mail);
        assert!(found.fact(id("spf")).is_none() && found.fact(id("helo.matches")).is_some());
        found.decided();
        found.begin(Stage::Helo);
        assert!(found.fact(id("helo.matches")).is_none() && found.fact(id("client.ptr")).is_some());
        assert_eq!(found.fact(id("dmarc")), Some(&text("told before")));
    }
}
