//! What both sides agree on first: version, what the filter may change, which steps it is told and answers.
//!
//! How it fails: flags that nobody knows are kept as they are, so that the caller can refuse them by number.

use super::{Data, MilterError, Text, put_text};
use std::ops::BitOr;

/// The version spoken here (`SMFI_PROT_VERSION`).
pub const VERSION: u32 = 6;
/// The oldest version a filter may speak, as libmilter has it.
pub const VERSION_MIN: u32 = 2;

macro_rules! flags {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $flag:ident = $value:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$doc])* pub const $flag: $name = $name($value);)+
            /// Every flag of version 6.
            pub const ALL: $name = $name(0 $(| $value)+);

            /// Whether all flags of `other` are set.
            pub const fn has(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }
            /// The flags that are not in `other`.
            pub const fn without(self, other: $name) -> $name {
                $name(self.0 & !other.0)
            }
            /// Whether no flag is set.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }
        }

        impl BitOr for $name {
            type Output = $name;
            fn bitor(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }
        }
    };
}

flags! {
    /// What a filter may do to a message (`SMFIF_*`).
    Actions {
        /// Add header fields.
        ADD_HEADERS = 0x01,
        /// Replace the body.
        CHANGE_BODY = 0x02,
        /// Add recipients.
        ADD_RECIPIENTS = 0x04,
        /// Remove recipients.
        DELETE_RECIPIENTS = 0x08,
        /// Change or remove header fields.
        CHANGE_HEADERS = 0x10,
        /// Have the message kept aside.
        QUARANTINE = 0x20,
        /// Change the envelope sender.
        CHANGE_SENDER = 0x40,
        /// Add recipients with ESMTP parameters.
        ADD_RECIPIENTS_PARAMETERS = 0x80,
        /// Say which macros it wants at which stage.
        SET_SYMBOLS = 0x100,
    }
}

flags! {
    /// Steps that are left out or not answered, and what both sides understand (`SMFIP_*`).
    Steps {
        /// No connect information.
        NO_CONNECT = 0x01,
        /// No HELO.
        NO_HELO = 0x02,
        /// No MAIL.
        NO_MAIL = 0x04,
        /// No RCPT.
        NO_RECIPIENTS = 0x08,
        /// No body.
        NO_BODY = 0x10,
        /// No header fields.
        NO_HEADERS = 0x20,
        /// No end of the header section.
        NO_END_OF_HEADERS = 0x40,
        /// Header fields are not answered.
        QUIET_HEADERS = 0x80,
        /// No unknown commands.
        NO_UNKNOWN = 0x100,
        /// No DATA.
        NO_DATA = 0x200,
        /// The answer "skip" is understood.
        SKIP = 0x400,
        /// Refused recipients are told too.
        REFUSED_RECIPIENTS = 0x800,
        /// Connect information is not answered.
        QUIET_CONNECT = 0x1000,
        /// HELO is not answered.
        QUIET_HELO = 0x2000,
        /// MAIL is not answered.
        QUIET_MAIL = 0x4000,
        /// RCPT is not answered.
        QUIET_RECIPIENTS = 0x8000,
        /// DATA is not answered.
        QUIET_DATA = 0x1_0000,
        /// Unknown commands are not answered.
        QUIET_UNKNOWN = 0x2_0000,
        /// The end of the header section is not answered.
        QUIET_END_OF_HEADERS = 0x4_0000,
        /// Pieces of the body are not answered.
        QUIET_BODY = 0x8_0000,
        /// Values of header fields keep the space behind their colon, both ways.
        LEADING_SPACE = 0x10_0000,
    }
}

impl Steps {
    /// Flags between a server and libmilter itself (`SMFI_INTERNAL`); they say nothing about steps.
    pub const INTERNAL: Steps = Steps(0x7000_0000);
}

/// Where macros are told; its number is that of libmilter's lists of macros (`SMFIM_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// With the connect information.
    Connect = 0,
    /// With HELO.
    Helo = 1,
    /// With MAIL.
    Mail = 2,
    /// With RCPT.
    Recipient = 3,
    /// With DATA.
    Data = 4,
    /// With the end of the message.
    EndOfMessage = 5,
    /// With the end of the header section.
    EndOfHeaders = 6,
}

/// Every stage in the order of its number.
pub const STAGES: [Stage; 7] =
    [Stage::Connect, Stage::Helo, Stage::Mail, Stage::Recipient, Stage::Data, Stage::EndOfMessage, Stage::EndOfHeaders];

impl Stage {
    /// The command whose macros these are.
    pub(super) const fn code(self) -> u8 {
        match self {
            Stage::Connect => b'C',
            Stage::Helo => b'H',
            Stage::Mail => b'M',
            Stage::Recipient => b'R',
            Stage::Data => b'T',
            Stage::EndOfMessage => b'E',
            Stage::EndOfHeaders => b'N',
        }
    }
    pub(super) fn of_code(code: u8) -> Option<Stage> {
        STAGES.into_iter().find(|stage| stage.code() == code)
    }
    pub(super) fn of_number(number: u32) -> Option<Stage> {
        STAGES.get(usize::try_from(number).ok()?).copied()
    }
}

/// An offer, or the answer to one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Negotiation<'a> {
    /// Version of the protocol.
    pub version: u32,
    /// What may be changed.
    pub actions: Actions,
    /// Steps left out or not answered.
    pub steps: Steps,
    /// Macros a filter wants instead of the usual ones, their names separated by spaces.
    pub symbols: Vec<(Stage, Text<'a>)>,
}

impl<'a> Negotiation<'a> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for number in [self.version, self.actions.0, self.steps.0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for (stage, names) in &self.symbols {
            out.extend_from_slice(&(*stage as u32).to_be_bytes());
            put_text(out, names);
        }
    }

    pub(super) fn read(data: &mut Data<'a>) -> Result<Negotiation<'a>, MilterError> {
        let (version, actions, steps) = (data.u32()?, Actions(data.u32()?), Steps(data.u32()?));
        let mut symbols = Vec::new();
        while !data.rest.is_empty() {
            let stage = Stage::of_number(data.u32()?).ok_or(MilterError::Value(data.code))?;
            symbols.push((stage, data.text()?));
        }
        Ok(Negotiation { version, actions, steps, symbols })
    }

    /// With its own copy of every text.
    pub fn into_owned(self) -> Negotiation<'static> {
        let symbols = self.symbols.into_iter().map(|(stage, names)| (stage, names.into_owned().into()));
        Negotiation { symbols: symbols.collect(), ..self }
    }
}
