//! Bytes to valid values and back: framing, grammar, addresses, the catalogue of replies. No state, no I/O.
//!
//! How it fails: parsers return errors that name the offence; emitters are total.

/// Declares the verbs of a protocol once: enum, text, and look-up.
macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// A verb of the protocol that we know.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verb { $($(#[$doc])* $name),+ }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Verb] = &[$(Verb::$name),+];
            /// As the RFC writes it.
            pub fn text(self) -> &'static str {
                match self { $(Verb::$name => $text),+ }
            }
            /// The verb of this spelling, in any case (RFC 5321 §2.4, RFC 1939 §3).
            pub fn of(word: &str) -> Option<Verb> {
                Verb::ALL.iter().copied().find(|v| v.text().eq_ignore_ascii_case(word))
            }
        }
    };
}
pub mod address;
pub mod authentication_results;
pub mod command;
pub mod data;
pub mod header;
pub mod imap;
pub mod milter;
pub mod mime;
pub mod params;
pub mod pop3;
pub mod prep;
pub mod proxy;
pub mod replies;
pub mod reply;
pub mod response;
pub mod xtext;
