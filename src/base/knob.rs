//! Knobs: settings that are declared once, beside their user, with doc, unit, range and default.
//!
//! [`knobs!`](crate::knobs) makes a struct with `Default`, a setter by name and the rows for the generated reference
//! page and JSON Schema. `control/` reads the file and calls the setters. How it fails: [`KnobError`] says what was
//! expected; the caller adds file, line and column.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::time::Duration;

/// A value as the configuration file or a flag gave it.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// `true`, `false`
    Bool(bool),
    /// `42`
    Integer(i64),
    /// `"text"`
    Text(String),
    /// `[…]`
    List(Vec<Raw>),
}

impl Raw {
    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Raw::Bool(_) => "a boolean",
            Raw::Integer(_) => "a number",
            Raw::Text(_) => "a string",
            Raw::List(_) => "a list",
        }
    }
}

/// Why a knob was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnobError {
    /// There is no knob of that name in the section.
    Unknown,
    /// The value does not fit; the text says what was expected.
    Invalid(String),
}

/// One row of the reference page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knob {
    /// Section in the file, such as `smtp`; a dotted name is a nested table.
    pub section: &'static str,
    /// Key in the section.
    pub name: &'static str,
    /// What it does.
    pub doc: String,
    /// Unit of the value, `""` when it has none.
    pub unit: &'static str,
    /// Kind of the value, for the page.
    pub kind: &'static str,
    /// Whether texts in the value name files, relative to the directory of the configuration file.
    pub names_files: bool,
    /// JSON Schema of the value.
    pub schema: String,
    /// Default, as it would be written in the file; `""` when there is none.
    pub default: String,
    /// Values that are allowed.
    pub range: KnobRange,
}

/// The range of a knob, in words of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnobRange {
    /// Smallest value, as the file would have it; empty when there is none.
    pub low: String,
    /// Largest value, as the file would have it; empty when there is none.
    pub high: String,
}

impl KnobRange {
    /// The bounds of `range`. Knobs are declared with inclusive ranges, so that both ends can be written in a file.
    pub fn of<T: KnobType>(range: &impl RangeBounds<T>) -> KnobRange {
        let show = |bound: Bound<&T>| match bound {
            Bound::Included(v) | Bound::Excluded(v) => v.show(),
            Bound::Unbounded => String::new(),
        };
        debug_assert!(!matches!(range.end_bound(), Bound::Excluded(_)), "declare the range with ..=");
        KnobRange { low: show(range.start_bound()), high: show(range.end_bound()) }
    }
}

impl fmt::Display for KnobRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.low.as_str(), self.high.as_str()) {
            ("", "") => Ok(()),
            (low, "") => write!(f, "at least {low}"),
            ("", high) => write!(f, "at most {high}"),
            (low, high) => write!(f, "{low} to {high}"),
        }
    }
}

/// What [`knobs!`](crate::knobs) makes of a section, for code that works on any of them.
pub trait Section {
    /// The section these knobs stand in.
    fn name(&self) -> &'static str;
    /// What the section is about.
    fn doc(&self) -> String;
    /// Sets the knob `key`.
    fn set_knob(&mut self, key: &str, raw: &Raw) -> Result<(), KnobError>;
    /// The rows of the reference page, in order of declaration.
    fn rows(&self) -> Vec<Knob>;
    /// Every knob with its value, as the file would have it.
    fn values(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// Files and directories that the section names.
    fn paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// A type a knob can have.
pub trait KnobType: Sized {
    /// Name for the reference page.
    const KIND: &'static str;
    /// Whether values name files, which in a configuration file are relative to its directory.
    const NAMES_FILES: bool = false;
    /// Reads a value; the error says what was expected.
    fn parse(raw: &Raw) -> Result<Self, String>;
    /// Writes a value as the file would have it.
    fn show(&self) -> String;
    /// JSON Schema of the value.
    fn schema() -> String;
    /// Files and directories that the value names.
    fn paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

fn expected<T>(what: &str, raw: &Raw) -> Result<T, String> {
    let got = match raw {
        Raw::Text(t) => format!("{t:?}"),
        Raw::Integer(n) => n.to_string(),
        other => other.kind().to_owned(),
    };
    Err(format!("expected {what}, found {got}"))
}

impl KnobType for bool {
    const KIND: &'static str = "boolean";
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Bool(b) => Ok(*b),
            Raw::Text(t) if t == "true" => Ok(true),
            Raw::Text(t) if t == "false" => Ok(false),
            _ => expected("true or false", raw),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
    fn schema() -> String {
        r#"{"type":"boolean"}"#.into()
    }
}

macro_rules! integer_knob {
    ($($t:ty),*) => {$(
        impl KnobType for $t {
            const KIND: &'static str = "integer";
            fn parse(raw: &Raw) -> Result<Self, String> {
                let n = match raw {
                    Raw::Integer(n) => Some(*n),
                    Raw::Text(t) => t.parse().ok(),
                    _ => None,
                };
                match n.and_then(|n| <$t>::try_from(n).ok()) {
                    Some(n) => Ok(n),
                    None if u64::from(u32::MAX) < <$t>::MAX as u64 => expected("a whole number", raw),
                    None => expected(&format!("a whole number from 0 to {}", <$t>::MAX), raw),
                }
            }
            fn show(&self) -> String {
                self.to_string()
            }
            fn schema() -> String {
                r#"{"type":"integer","minimum":0}"#.into()
            }
        }
    )*};
}
integer_knob!(u8, u16, u32, u64, usize);

impl KnobType for String {
    const KIND: &'static str = "string";
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(t) => Ok(t.clone()),
            _ => expected("a string", raw),
        }
    }
    fn show(&self) -> String {
        format!("{self:?}")
    }
    fn schema() -> String {
        r#"{"type":"string"}"#.into()
    }
}

macro_rules! parsed_knob {
    ($($t:ty, $kind:literal, $what:literal, $show:expr;)*) => {$(
        impl KnobType for $t {
            const KIND: &'static str = $kind;
            fn parse(raw: &Raw) -> Result<Self, String> {
                match raw {
                    Raw::Text(t) => t.parse().or_else(|_| expected($what, raw)),
                    _ => expected($what, raw),
                }
            }
            fn show(&self) -> String {
                #[allow(clippy::redundant_closure_call)] // the macro's argument is a closure
                let text: String = ($show)(self);
                format!("{text:?}")
            }
            fn schema() -> String {
                r#"{"type":"string"}"#.into()
            }
        }
    )*};
}
parsed_knob! {
    SocketAddr, "address", "an address with port, such as \"127.0.0.1:25\" or \"[::1]:25\"", |v: &SocketAddr| v.to_string();
    IpAddr, "address", "an IP address", |v: &IpAddr| v.to_string();
}

impl KnobType for PathBuf {
    const KIND: &'static str = "path";
    const NAMES_FILES: bool = true;
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(t) => Ok(PathBuf::from(t)),
            _ => expected("a path", raw),
        }
    }
    fn show(&self) -> String {
        format!("{:?}", self.display().to_string())
    }
    fn schema() -> String {
        r#"{"type":"string"}"#.into()
    }
    fn paths(&self) -> Vec<PathBuf> {
        vec![self.clone()]
    }
}

impl KnobType for ipnet::IpNet {
    const KIND: &'static str = "network";
    fn parse(raw: &Raw) -> Result<Self, String> {
        let what = "a network such as \"192.0.2.0/24\", \"2001:db8::/32\" or one address";
        match raw {
            Raw::Text(t) => {
                t.parse().or_else(|_| t.parse::<IpAddr>().map(ipnet::IpNet::from)).or_else(|_| expected(what, raw))
            }
            _ => expected(what, raw),
        }
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
    fn schema() -> String {
        r#"{"type":"string"}"#.into()
    }
}

impl KnobType for Duration {
    const KIND: &'static str = "duration";
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(t) => parse_duration(t).map_or_else(|| expected(DURATION, raw), Ok),
            _ => expected(DURATION, raw),
        }
    }
    fn show(&self) -> String {
        format!("{:?}", show_duration(*self))
    }
    fn schema() -> String {
        r#"{"type":"string","pattern":"^([0-9]+(ms|s|m|h|d))+$"}"#.into()
    }
}

const DURATION: &str = "a duration such as \"500ms\", \"30s\", \"5m\", \"4h\" or \"5d\"";

/// Reads `1h30m`, `500ms`, `5d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let n: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit_ms = match &rest[..end] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(n.checked_mul(unit_ms)?))?;
        rest = &rest[end..];
    }
    Some(total)
}

/// Writes what [`parse_duration`] reads, in at most two units.
pub fn show_duration(d: Duration) -> String {
    let ms = d.as_millis();
    if ms == 0 {
        return "0s".to_owned();
    }
    for (unit, size, next, next_size) in [
        ("d", 86_400_000, "h", 3_600_000),
        ("h", 3_600_000, "m", 60_000),
        ("m", 60_000, "s", 1000),
        ("s", 1000, "ms", 1),
    ] {
        if ms >= size {
            let (whole, rest) = (ms / size, ms % size);
            if rest == 0 {
                return format!("{whole}{unit}");
            }
            if rest % next_size == 0 {
                return format!("{whole}{unit}{}{next}", rest / next_size);
            }
        }
    }
    format!("{ms}ms")
}

/// A number of octets, written `64KiB`, `25MiB`, `1GB` or as a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Octets(pub u64);

impl Octets {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Octets {
        Octets(n * 1024)
    }
    /// `n` MiB.
    pub const fn mib(n: u64) -> Octets {
        Octets(n * 1024 * 1024)
    }
    /// As a length in memory.
    pub fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
    /// Whether it is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl KnobType for Octets {
    const KIND: &'static str = "size";
    fn parse(raw: &Raw) -> Result<Self, String> {
        const WHAT: &str = "a size such as 1048576, \"64KiB\", \"25MiB\" or \"1GB\"";
        let parsed = match raw {
            Raw::Integer(n) => u64::try_from(*n).ok(),
            Raw::Text(t) => {
                let split = t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
                let factor = match t[split..].trim() {
                    "" | "B" => Some(1),
                    "KiB" => Some(1 << 10),
                    "MiB" => Some(1 << 20),
                    "GiB" => Some(1 << 30),
                    "TiB" => Some(1 << 40),
                    "kB" | "KB" => Some(1000),
                    "MB" => Some(1_000_000),
                    "GB" => Some(1_000_000_000),
                    _ => None,
                };
                factor.and_then(|f: u64| t[..split].parse::<u64>().ok()?.checked_mul(f))
            }
            _ => None,
        };
        parsed.map_or_else(|| expected(WHAT, raw), |n| Ok(Octets(n)))
    }
    fn show(&self) -> String {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return format!("\"{}{unit}\"", self.0 >> shift);
            }
        }
        self.0.to_string()
    }
    fn schema() -> String {
        r#"{"type":["integer","string"],"minimum":0,"pattern":"^[0-9]+ *([KMGT]iB|[kKMG]B|B)?$"}"#.into()
    }
}

impl<T: KnobType> KnobType for Option<T> {
    const KIND: &'static str = T::KIND;
    const NAMES_FILES: bool = T::NAMES_FILES;
    fn parse(raw: &Raw) -> Result<Self, String> {
        T::parse(raw).map(Some)
    }
    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
    fn schema() -> String {
        T::schema()
    }
    fn paths(&self) -> Vec<PathBuf> {
        self.as_ref().map(T::paths).unwrap_or_default()
    }
}

impl<T: KnobType> KnobType for Vec<T> {
    const KIND: &'static str = "list";
    const NAMES_FILES: bool = T::NAMES_FILES;
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::List(items) => items.iter().map(T::parse).collect(),
            single => T::parse(single).map(|v| vec![v]),
        }
    }
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }
    fn schema() -> String {
        format!(r#"{{"type":"array","items":{}}}"#, T::schema())
    }
    fn paths(&self) -> Vec<PathBuf> {
        self.iter().flat_map(T::paths).collect()
    }
}

/// An enum whose values are words in the file: `knob_words! { /// doc  pub enum Io { /// doc  Auto = "auto", … } }`.
#[macro_export]
macro_rules! knob_words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every word.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
            /// As it is written in the file.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(s: &str) -> Result<Self, String> {
                match s {
                    $($word => Ok($name::$variant),)+
                    _ => Err(format!("expected one of {}, found {s:?}", Self::WORDS.join(", "))),
                }
            }
        }

        impl $crate::base::knob::KnobType for $name {
            const KIND: &'static str = "word";
            fn parse(raw: &$crate::base::knob::Raw) -> Result<Self, String> {
                match raw {
                    $crate::base::knob::Raw::Text(t) => t.parse(),
                    other => Err(format!("expected one of {}, found {}", Self::WORDS.join(", "), other.kind())),
                }
            }
            fn show(&self) -> String {
                format!("{:?}", self.word())
            }
            fn schema() -> String {
                format!(r#"{{"enum":{:?}}}"#, Self::WORDS)
            }
        }
    };
}

/// Declares a section of the configuration.
///
/// ```
/// gatepost::knobs! {
///     /// What the section is about.
///     pub struct DemoKnobs in "demo" {
///         /// Longest line.
///         line_octets_max: usize = 2048, unit "octets", range 512..=65536;
///         /// A name.
///         name: Option<String> = None, unit "";
///     }
/// }
/// let mut k = DemoKnobs::default();
/// k.set("line_octets_max", &gatepost::base::knob::Raw::Integer(1000)).unwrap();
/// assert_eq!(k.line_octets_max, 1000);
/// assert!(k.set("line_octets_max", &gatepost::base::knob::Raw::Integer(1)).is_err());
/// ```
#[macro_export]
macro_rules! knobs {
    ($(#[doc = $sdoc:literal])* pub struct $name:ident in $section:literal {
        $($(#[doc = $doc:literal])* $field:ident : $ty:ty = $default:expr, unit $unit:literal $(, range $range:expr)? ;)*
    }) => {
        $(#[doc = $sdoc])*
        #[derive(Clone, Debug)]
        pub struct $name { $($(#[doc = $doc])* pub $field: $ty),* }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default),* }
            }
        }

        impl $name {
            /// The section these knobs stand in.
            pub const SECTION: &'static str = $section;

            /// What the section is about.
            pub fn section_doc() -> String {
                [$($sdoc),*].iter().map(|l: &&str| l.trim()).collect::<Vec<_>>().join("\n")
            }

            /// Sets the knob `key`.
            #[allow(unused_variables)] // a section may be empty
            pub fn set(
                &mut self,
                key: &str,
                raw: &$crate::base::knob::Raw,
            ) -> Result<(), $crate::base::knob::KnobError> {
                use $crate::base::knob::{KnobError, KnobType};
                match key {
                    $(stringify!($field) => {
                        let value = <$ty as KnobType>::parse(raw).map_err(KnobError::Invalid)?;
                        $(if !($range).contains(&value) {
                            return Err(KnobError::Invalid(format!(
                                "expected {}{}, found {}", $crate::base::knob::KnobRange::of::<$ty>(&($range)),
                                if $unit.is_empty() { String::new() } else { format!(" ({})", $unit) },
                                KnobType::show(&value))));
                        })?
                        self.$field = value;
                        Ok(())
                    })*
                    _ => Err(KnobError::Unknown),
                }
            }

            /// The rows of the reference page, in order of declaration.
            pub fn table() -> Vec<$crate::base::knob::Knob> {
                use $crate::base::knob::KnobType;
                let defaults = Self::default();
                vec![$($crate::base::knob::Knob {
                    section: $section,
                    name: stringify!($field),
                    doc: [$($doc),*].iter().map(|l: &&str| l.trim()).collect::<Vec<_>>().join("\n"),
                    unit: $unit,
                    kind: <$ty as KnobType>::KIND,
                    names_files: <$ty as KnobType>::NAMES_FILES,
                    schema: <$ty as KnobType>::schema(),
                    default: KnobType::show(&defaults.$field),
                    range: {
                        #[allow(unused_mut, unused_assignments)] // a knob may have no range
                        let mut range = $crate::base::knob::KnobRange::default();
                        $(range = $crate::base::knob::KnobRange::of::<$ty>(&($range));)?
                        range
                    },
                }),*]
            }
        }

        impl $crate::base::knob::Section for $name {
            fn name(&self) -> &'static str {
                Self::SECTION
            }
            fn doc(&self) -> String {
                Self::section_doc()
            }
            fn set_knob(
                &mut self,
                key: &str,
                raw: &$crate::base::knob::Raw,
            ) -> Result<(), $crate::base::knob::KnobError> {
                self.set(key, raw)
            }
            fn values(&self) -> Vec<(&'static str, String)> {
                use $crate::base::knob::KnobType;
                vec![$((stringify!($field), KnobType::show(&self.$field))),*]
            }
            fn rows(&self) -> Vec<$crate::base::knob::Knob> {
                Self::table()
            }
            fn paths(&self) -> Vec<std::path::PathBuf> {
                let mut paths = Vec::new();
                $(paths.extend($crate::base::knob::KnobType::paths(&self.$field));)*
                paths
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_back() {
        for (text, ms) in [("500ms", 500), ("1h30m", 5_400_000), ("5d", 432_000_000), ("1s500ms", 1500)] {
            let d = parse_duration(text).unwrap();
            assert_eq!(d.as_millis(), ms);
            assert_eq!(show_duration(d), text);
        }
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_duration("-5s"), None);
        assert_eq!(Octets::parse(&Raw::Text("25MiB".into())), Ok(Octets::mib(25)));
        assert_eq!(Octets::mib(25).show(), "\"25MiB\"");
        assert!(Octets::parse(&Raw::Text("25 apples".into())).unwrap_err().contains("expected a size"));
    }
}
