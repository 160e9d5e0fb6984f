//! The settings of the mailstore. How it fails: setting a knob out of its range is an error of the `knobs!` macro.

use crate::base::knob::Octets;
use std::time::Duration;

crate::knobs! {
    /// Mailboxes: how much an account may keep, and what the embedded store spends on memory and disk.
    pub struct MailboxKnobs in "mailbox" {
        /// Octets an account may keep; 0 is without limit. More is answered 552 or OVERQUOTA.
        quota_octets: Octets = Octets(0), unit "", range Octets(0)..=Octets(1 << 50);
        /// Messages an account may keep; 0 is without limit.
        quota_messages: u64 = 0, unit "messages", range 0..=1_000_000_000;
        /// Largest message that can be stored.
        message_octets_max: Octets = Octets::mib(64), unit "", range Octets::kib(64)..=Octets::mib(1024);
        /// Mailboxes an account may have.
        mailboxes_max: usize = 2000, unit "mailboxes", range 6..=100_000;
        /// Threads that read: accounts are shared out among them, so that a slow search holds up one share only.
        lanes: usize = 4, unit "threads", range 1..=64;
        /// Size of a log segment.
        segment_octets: Octets = Octets::mib(64), unit "", range Octets::kib(64)..=Octets::mib(256);
        /// Dead log segments that are kept for reuse.
        segments_spare_max: usize = 4, unit "segments", range 1..=64;
        /// Messages up to this size are kept in the log, larger ones in a file each.
        body_inline_octets_max: Octets = Octets::mib(1), unit "", range Octets(0)..=Octets::mib(32);
        /// Messages whose flags and places are kept in memory, over all mailboxes in use (about 60 octets each).
        image_messages_max: u64 = 4_000_000, unit "messages", range 1000..=1_000_000_000;
        /// Records of changes may take so much, or twice what they made if that is more; then what they made is written
        /// down as it is and they go.
        changes_octets_max: Octets = Octets::mib(4), unit "", range Octets::kib(4)..=Octets::mib(1024);
        /// Memory for envelopes and structures that were asked for, as much again for headers that were searched, and
        /// again for headers that were fetched.
        warm_octets_max: Octets = Octets::mib(64), unit "", range Octets::kib(64)..=Octets(1 << 40);
        /// Segments of which less than this is alive are rewritten to give their room back.
        compact_below_percent: u32 = 50, unit "%", range 5..=90;
        /// Segments of which more than this is padding, because messages came one by one, are packed once in idle time.
        pack_above_percent: u32 = 8, unit "%", range 1..=100;
        /// How long an expunged message can still be read by a session that is being sent it.
        expunged_grace: Duration = Duration::from_secs(60), unit "", range Duration::ZERO..=Duration::from_secs(86_400);
        /// Whether words in messages are indexed in idle time, so that searching them reads few messages. Costs about as
        /// much disk as the texts of the messages.
        full_text_search: bool = true, unit "", range false..=true;
        /// Sections of messages above this size are read in pieces instead of being answered as a whole.
        section_octets_max: Octets = Octets::kib(256), unit "", range Octets::kib(4)..=Octets::mib(64);
    }
}
