//! The stages of a session at which rules are tried.
//!
//! How it fails: parsing an unknown word says which there are.

crate::knob_words! {
    /// When a rule is tried. In order of a session; `vrfy` stands apart.
    #[derive(PartialOrd, Ord)]
    pub enum Stage {
        /// The client has connected (after the PROXY header, before the banner).
        Connect = "connect",
        /// HELO, EHLO or LHLO.
        Helo = "helo",
        /// An authentication exchange has ended, well or not.
        Auth = "auth",
        /// MAIL FROM.
        Mail = "mail",
        /// RCPT TO, once per recipient.
        Rcpt = "rcpt",
        /// The header section is there.
        Data = "data",
        /// The whole message is there; last chance to refuse it.
        Message = "message",
        /// VRFY or EXPN, at any time (RFC 5321 §3.5).
        Vrfy = "vrfy",
    }
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 8] =
        [Stage::Connect, Stage::Helo, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Message, Stage::Vrfy];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Position in [`Stage::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// The stages at which something is known, inclusive. Facts of the connection are known at `vrfy` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Earliest stage.
    pub first: Stage,
    /// Last stage.
    pub last: Stage,
}

impl Span {
    /// From `first` to the end of the session.
    pub const fn from(first: Stage) -> Span {
        Span { first, last: Stage::Message }
    }
    /// At one stage only.
    pub const fn only(stage: Stage) -> Span {
        Span { first: stage, last: stage }
    }
    /// Whether it is known at `stage`.
    pub fn covers(self, stage: Stage) -> bool {
        match stage {
            // VRFY comes outside transactions: what the connection has is there.
            Stage::Vrfy => self.first <= Stage::Auth || self.first == Stage::Vrfy,
            _ => self.first <= stage && stage <= self.last,
        }
    }
}
