//! One way to tell an administrator what is wrong in a file: place, sentence, the line with a caret below the word,
//! and what was probably meant.
//!
//! ```text
//! gatepost.toml:12:1: error: unknown key "adress" in [[listener]]
//!    12 | adress = "127.0.0.1:25"
//!       | ^^^^^^ did you mean "address"?
//! ```
//!
//! How it fails: it does not; a span outside the text points at its end.

use std::fmt;
use std::ops::Range;

/// The text of a file and where its lines begin.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    lines: Vec<usize>,
}

impl Source {
    /// The text of the file called `name`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { name: name.into(), text, lines }
    }
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }
    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Where `span` (in octets) is. Only its first line counts.
    pub fn place(&self, span: Range<usize>) -> Place {
        let start = floor_char(&self.text, span.start);
        let line = self.lines.partition_point(|begin| *begin <= start) - 1;
        let begin = self.lines[line];
        let text = self.text[begin..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let end = floor_char(&self.text, span.end).min(begin + text.len()).max(start);
        Place {
            file: self.name.clone(),
            line: line + 1,
            column: self.text[begin..start].chars().count() + 1,
            width: self.text[start..end].chars().count().max(1),
            text: text.to_owned(),
        }
    }
}

fn floor_char(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// A word in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters the caret line covers.
    pub width: usize,
    /// The whole line.
    pub text: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, but is probably not meant.
    Warning,
    /// Cannot be used.
    Error,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is; `None` when it is not in a file (a flag).
    pub place: Option<Place>,
    /// The offence and what was expected.
    pub message: String,
    /// What was probably meant, or what to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, place: Some(place), message: message.into(), help: None }
    }
    /// A warning at a place.
    pub fn warning(place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(place, message) }
    }
    /// An error that is in no file; the message names the flag.
    pub fn flag(message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, place: None, message: message.into(), help: None }
    }
    /// With what was probably meant.
    pub fn with_help(mut self, help: Option<String>) -> Diagnostic {
        self.help = help;
        self
    }
    /// Whether it makes the file unusable.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Characters of a line that are shown; of longer ones a window around the word.
const SHOWN_CHARS_MAX: usize = 160;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.is_error() { "error" } else { "warning" };
        let Some(place) = &self.place else {
            write!(f, "{severity}: {}", self.message)?;
            return self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"));
        };
        writeln!(f, "{}:{}:{}: {severity}: {}", place.file, place.line, place.column, self.message)?;
        let before: Vec<char> = place.text.chars().take(place.column - 1).map(visible).collect();
        let skip = if place.column + place.width > SHOWN_CHARS_MAX { before.len().saturating_sub(40) } else { 0 };
        let shown: String = place.text.chars().map(visible).skip(skip).take(SHOWN_CHARS_MAX).collect();
        writeln!(f, "{:>5} | {shown}", place.line)?;
        // A tab in front of the word stays a tab, so that the caret stands below it.
        let pad: String = before.iter().skip(skip).map(|c| if *c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "      | {pad}{}", "^".repeat(place.width.min(SHOWN_CHARS_MAX)))?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " {help}"))
    }
}

/// No file may steer the terminal it is shown on.
fn visible(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

/// All of them, in the order of the file, one per paragraph.
pub fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

/// Whether none of them is an error.
pub fn usable(diagnostics: &[Diagnostic]) -> bool {
    !diagnostics.iter().any(Diagnostic::is_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_below_the_word() {
        let source = Source::new("x.toml", "a = 1\n\tgrün = 2\r\nlast");
        let at = source.text().find("grün").unwrap();
        let shown = Diagnostic::error(source.place(at..at + 5), "unknown key").with_help(Some("did you mean?".into()));
        assert_eq!(
            shown.to_string(),
            "x.toml:2:2: error: unknown key\n    2 | \tgrün = 2\n      | \t^^^^ did you mean?"
        );
    }

    #[test]
    fn places_at_the_edges() {
        let source = Source::new("x", "ab\ncd\n");
        let place = |span| {
            let p = source.place(span);
            (p.line, p.column, p.width)
        };
        assert_eq!(place(0..2), (1, 1, 2));
        assert_eq!(place(1..5), (1, 2, 1)); // only the first line
        assert_eq!(place(3..3), (2, 1, 1));
        assert_eq!(place(6..6), (3, 1, 1));
        assert_eq!(place(900..901), (3, 1, 1));
        assert_eq!(Source::new("x", "").place(0..0).line, 1);
    }

    #[test]
    fn long_lines_and_controls_do_no_harm() {
        let text = format!("{}\u{1b}[31mword", "x".repeat(5000));
        let source = Source::new("x", text.clone());
        let shown = Diagnostic::error(source.place(text.len() - 4..text.len()), "bad").to_string();
        assert!(!shown.contains('\u{1b}'));
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().skip(caret).collect::<String>(), "word");
    }
}
