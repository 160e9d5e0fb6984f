//! The settings of a helper, sections `[helper.NAME]`.
//!
//! How it fails: values that do not fit are refused by the setters with what was expected; what must hold between them
//! is checked in `control`.

use super::address::HelperAddress;
use crate::base::knob::Octets;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

crate::knob_words! {
    /// What a helper speaks.
    pub enum HelperKind {
        /// Sendmail's milter protocol, version 6: rspamd, clamav-milter, OpenDKIM, spamass-milter, OpenDMARC and others.
        Milter = "milter",
        /// rspamd's own HTTP interface (`/checkv2` of a normal or proxy worker).
        Rspamd = "rspamd",
        /// Postfix's policy delegation: postgrey, policyd-spf, policyd and others.
        Policy = "policy",
    }
}

crate::knob_words! {
    /// What stands in for the answer of a helper that failed.
    pub enum OnFailure {
        /// As if it had nothing against it.
        Accept = "accept",
        /// A temporary refusal, 451 4.7.1.
        Defer = "defer",
        /// A refusal, 550 5.7.1.
        Reject = "reject",
        /// Nothing is known: rules that ask for it do not fire.
        Unknown = "unknown",
        /// Rules read `failed` and decide.
        Failed = "failed",
    }
}

crate::knob_words! {
    /// What stands in for the answer about a message that is too large to be told.
    pub enum OnOversize {
        /// As if the helper had nothing against it.
        Accept = "accept",
        /// A refusal, 552 5.3.4.
        Reject = "reject",
        /// Nothing is known: rules that ask for it do not fire.
        Unknown = "unknown",
    }
}

crate::knobs! {
    /// A program that rules can consult: `helper('NAME')` and `helper_score('NAME')` in conditions, `obey NAME` as an
    /// outcome. It is asked only where a rule needs it; a milter and rspamd when the message is whole, a policy service
    /// also at RCPT. Read at the start. `gatepost consult NAME` asks one by hand.
    pub struct HelperKnobs in "helper.NAME" {
        /// "milter", "rspamd" or "policy". Required.
        kind: Option<HelperKind> = None, unit "";
        /// Where it listens: "unix:/run/rspamd/milter.sock", "inet:127.0.0.1:11332", or Sendmail's "inet:11332@localhost".
        /// A host that is a name is resolved by the system for each connection: an address is better. Required.
        address: Option<HelperAddress> = None, unit "";
        /// How long it may take to connect.
        connect_timeout: Duration = Duration::from_secs(5), unit "",
            range Duration::from_millis(10)..=Duration::from_secs(300);
        /// How long one answer may take; a milter that reports progress gets the time anew.
        answer_timeout: Duration = Duration::from_secs(30), unit "",
            range Duration::from_millis(10)..=Duration::from_secs(600);
        /// How long a consultation may take in all, waiting for a connection included.
        timeout: Duration = Duration::from_secs(60), unit "",
            range Duration::from_millis(10)..=Duration::from_secs(600);
        /// What stands in for the answer when it fails: "accept", "defer" (451), "reject" (550), "unknown" (rules that
        /// ask do not fire) or "failed" (`helper('NAME') == 'failed'`).
        on_failure: OnFailure = OnFailure::Defer, unit "";
        /// Connections to it at a time, that is consultations side by side.
        connections_max: usize = 16, unit "connections", range 1..=1000;
        /// Consultations that may wait for a connection; one more fails at once.
        waiting_max: usize = 256, unit "consultations", range 0..=100_000;
        /// Idle connections kept open. Not used for rspamd, which closes them.
        idle_max: usize = 8, unit "connections", range 0..=1000;
        /// How long an idle connection is kept.
        idle_time_max: Duration = Duration::from_secs(30), unit "",
            range Duration::ZERO..=Duration::from_secs(3600);
        /// Failures in a row after which it is not asked for a while.
        failures_max: u32 = 5, unit "failures", range 1..=1000;
        /// How long it is not asked then; after that one consultation tries, and each that fails doubles the time, up to
        /// sixteen times of it.
        retry_after: Duration = Duration::from_secs(10), unit "",
            range Duration::from_millis(10)..=Duration::from_secs(3600);
        /// Messages above this size are not told.
        message_octets_max: Octets = Octets::mib(32), unit "octets",
            range Octets::kib(1)..=Octets::mib(1024);
        /// What stands in for the answer about those: "accept", "reject" (552) or "unknown".
        on_oversize: OnOversize = OnOversize::Unknown, unit "";
        /// Names of the listeners whose sessions it is asked about; elsewhere its answer is unknown. `[]` = all.
        listeners: Vec<String> = Vec::new(), unit "";
        /// rspamd: file whose first line is the password of its controller or of a worker that wants one.
        password_file: Option<PathBuf> = None, unit "";
        /// rspamd: name of the settings to apply (its `Settings-ID`).
        settings_id: Option<String> = None, unit "";
        /// rspamd: run every check, also when some have decided already (its `Pass: all`).
        check_all: bool = false, unit "";
        /// Policy: the value of `policy_context`, so that one service can tell its askers apart.
        policy_context: Option<String> = None, unit "";
    }
}

/// A helper with its name; `kind` and `address` are set.
#[derive(Clone, Debug)]
pub struct HelperConfig {
    /// As it is called in the file.
    pub name: String,
    /// Its settings.
    pub knobs: HelperKnobs,
}

impl fmt::Display for HelperConfig {
    /// On one line, for summaries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HelperConfig { name, knobs } = self;
        let kind = knobs.kind.map_or("of no kind", HelperKind::word);
        let address = knobs.address.as_ref().map(ToString::to_string).unwrap_or_default();
        write!(f, "{name}: {kind} {address}, on failure {}", knobs.on_failure.word())
    }
}
