//! Functions of one text that conditions may call: the way to what has no fixed name, such as header fields.
//!
//! **A new function is a row here and a golden case.** How it fails: a function is total.

use super::header;
use super::stage::{Span, Stage};
use super::state::View;
use super::value::{Type, Value};
use std::borrow::Cow;

/// What the argument of a function names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A header field.
    Field,
    /// A table `[dnsbl.NAME]` of the policy.
    Dnsbl,
    /// A helper of the configuration.
    Helper,
    /// A table `[limit.NAME]` of the policy.
    Limit,
}

/// What a function returns.
pub enum Returned<'a> {
    /// Text, perhaps made for the occasion.
    Text(Cow<'a, str>),
    /// Anything else.
    Value(Value<'a>),
}

/// One row.
pub struct Function {
    /// As conditions write it.
    pub name: &'static str,
    /// What its argument names.
    pub takes: Argument,
    /// What its argument is, for people.
    pub argument: &'static str,
    /// What it returns.
    pub kind: Type,
    /// When it can be asked.
    pub known: Span,
    /// What it is, for the reference.
    pub doc: &'static str,
    /// Computes it.
    pub read: for<'a> fn(&View<'a>, &'a str) -> Returned<'a>,
}

impl Function {
    /// Whether somebody else finds out its value.
    pub fn is_found_out(&self) -> bool {
        matches!(self.takes, Argument::Dnsbl | Argument::Helper)
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The table.
pub static FUNCTIONS: &[Function] = &[
    Function {
        name: "header",
        takes: Argument::Field,
        argument: "field name",
        kind: Type::Text,
        known: Span::from(Stage::Data),
        doc: "Text of the first header field of that name, unfolded, encoded words as they are; empty when there is none.",
        read: |v, name| match (v.state.missing.hides_text(name), header::first(v.headers, name)) {
            (true, _) => Returned::Value(Value::Unknown),
            (false, None) if v.state.missing.hides_fields() => Returned::Value(Value::Unknown),
            (false, text) => Returned::Text(text.unwrap_or_default()),
        },
    },
    Function {
        name: "has_header",
        takes: Argument::Field,
        argument: "field name",
        kind: Type::Flag,
        known: Span::from(Stage::Data),
        doc: "Whether there is a header field of that name.",
        read: |v, name| match header::count(v.headers, name) > 0 {
            false if v.state.missing.hides_fields() => Returned::Value(Value::Unknown),
            found => Returned::Value(Value::Flag(found)),
        },
    },
    Function {
        name: "header_count",
        takes: Argument::Field,
        argument: "field name",
        kind: Type::Number,
        known: Span::from(Stage::Data),
        doc: "How many header fields of that name there are.",
        read: |v, name| match v.state.missing.hides_fields() {
            true => Returned::Value(Value::Unknown),
            false => Returned::Value(Value::count(header::count(v.headers, name))),
        },
    },
    Function {
        name: "limit_used",
        takes: Argument::Limit,
        argument: "name of a limit",
        kind: Type::Number,
        known: Span::from(Stage::Connect),
        doc: "How much of the limit is in use by the session's key, in percent: 0 after a rest, 100 when the next unit is too much; \
              unknown where the key is.",
        read: |v, name| Returned::Value(v.state.limit_used(name)),
    },
    Function {
        name: "dnsbl",
        takes: Argument::Dnsbl,
        argument: "name of a [dnsbl.NAME]",
        kind: Type::Score,
        known: Span::from(Stage::Connect),
        doc: "Sum of the weights of the codes that this list in the DNS gives for its subject \
              (negative for lists of the good); \
              0 when it is not listed; unknown when the list could not be asked. \
              Known from `connect` on for lists of clients, from `helo` and `mail` on for the others.",
        read: |v, name| Returned::Value(v.state.heard_of("dnsbl", name)),
    },
    Function {
        name: "helper",
        takes: Argument::Helper,
        argument: "name of a helper",
        kind: Type::Text,
        known: Span::from(Stage::Rcpt),
        doc: "What the helper advises: `accept`, `reject`, `defer`, `discard`, `quarantine`, `greylist`, or `failed` when it could not be asked. \
              At `rcpt` a policy service is asked about the recipient, at `message` any helper about the whole message.",
        read: |v, name| Returned::Value(v.state.heard_of("helper", name)),
    },
    Function {
        name: "helper_score",
        takes: Argument::Helper,
        argument: "name of a helper",
        kind: Type::Score,
        known: Span::from(Stage::Rcpt),
        doc: "The score that the helper gave; unknown when it gave none.",
        read: |v, name| Returned::Value(v.state.heard_of("helper_score", name)),
    },
    Function {
        name: "helper_symbols",
        takes: Argument::Helper,
        argument: "name of a helper",
        kind: Type::Texts,
        known: Span::from(Stage::Rcpt),
        doc: "What the helper found, by its own names.",
        read: |v, name| Returned::Value(v.state.heard_of("helper_symbols", name)),
    },
    Function {
        name: "helper_reply",
        takes: Argument::Helper,
        argument: "name of a helper",
        kind: Type::Text,
        known: Span::from(Stage::Rcpt),
        doc: "The reply that the helper wants the client to hear; empty when it names none.",
        read: |v, name| Returned::Value(v.state.heard_of("helper_reply", name)),
    },
];

/// The function of this name.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name)
}

/// A function whose values somebody else finds out, and its argument, from a call as conditions and journals write it:
/// `dnsbl('zen')`.
pub fn call(text: &str) -> Option<(&'static Function, &str)> {
    let (name, rest) = text.split_once('(')?;
    let argument = rest.strip_suffix(')')?;
    let quoted = |q: char| argument.strip_prefix(q).and_then(|a| a.strip_suffix(q));
    let argument = quoted('\'').or_else(|| quoted('"'))?;
    let function = find(name.trim()).filter(|f| f.is_found_out())?;
    Some((function, argument))
}

/// A call as [`call`] reads it.
pub fn write_call(function: &str, argument: &str) -> String {
    format!("{function}('{argument}')")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_written_and_read() {
        for (name, argument) in [("dnsbl", "zen"), ("helper", "rspamd"), ("helper_score", "x-y_2")] {
            let text = write_call(name, argument);
            let (function, read) = call(&text).unwrap();
            assert_eq!((function.name, read), (name, argument));
        }
        assert!(call("dnsbl(\"zen\")").is_some());
        for bad in ["dnsbl", "dnsbl(zen)", "header('subject')", "dnsbl('zen'", "other('zen')", "('x')"] {
            assert!(call(bad).is_none(), "{bad}");
        }
    }
}
