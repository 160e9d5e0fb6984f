//! The scenarios of `loadtest/scenarios/`, compiled in, so that the binary alone can run them.
//!
//! How it fails: a name that is none of them is no scenario.

/// Declares names and texts from one list.
macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        /// Their names.
        pub const NAMES: [&str; [$($name),*].len()] = [$($name),*];

        /// The text of one.
        pub fn text(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("../../scenarios/", $name, ".toml"))),)*
                _ => None,
            }
        }
    };
}

scenarios!(
    "clean",
    "botnet",
    "slowloris",
    "connection-flood",
    "list-burst",
    "attachments",
    "backend-outage",
    "greylist-retry",
    "password-guessing",
    "imap-morning-rush",
    "mailbox-crash",
    "a-day",
);
