//! What is wrong with a policy file, where, what was expected instead, and the near miss.
//!
//! How it fails: it does not; offsets outside the text are clamped to its end.

use std::fmt;
use std::ops::Range;

/// Whether the file may be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy is not loaded.
    Error,
    /// The policy is loaded; something in it is probably not what was meant.
    Warning,
    /// The policy is loaded; something in it has no effect yet, which may be what was meant.
    Hint,
}

impl Severity {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Hint => "hint",
        }
    }
}

/// One finding in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the policy from loading.
    pub severity: Severity,
    /// Name of the lint, such as `shadowed-rule`; empty for errors.
    pub code: &'static str,
    /// The file as it was named by the caller or by a `file =` key.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The offending word as it stands in the file.
    pub word: String,
    /// What is wrong.
    pub message: String,
    /// What was expected instead; may be empty.
    pub expected: String,
    /// The nearest known name, when there is one close enough.
    pub suggestion: Option<String>,
    /// Why it matters and what to do; may be empty.
    pub help: String,
    /// The whole line of the file, for the caret.
    pub source_line: String,
}

impl Diagnostic {
    /// A finding about `span` (octets) of `text`.
    pub fn at(file: &str, text: &str, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        Diagnostic {
            severity: Severity::Error,
            code: "",
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            word: text[start..end.min(line_end).max(start)].to_owned(),
            message: message.into(),
            expected: String::new(),
            suggestion: None,
            help: String::new(),
            source_line: text[line_start..line_end].trim_end_matches('\r').to_owned(),
        }
    }
    /// Adds what was expected.
    pub fn expected(mut self, expected: impl Into<String>) -> Diagnostic {
        self.expected = expected.into();
        self
    }
    /// Adds the nearest of `known` to `word`, when one is near.
    pub fn near<'a>(mut self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Diagnostic {
        self.suggestion = nearest(word, known).map(str::to_owned);
        self
    }
    /// Makes it a warning.
    pub fn warning(mut self) -> Diagnostic {
        self.severity = Severity::Warning;
        self
    }
    /// Makes it a hint.
    pub fn hint(mut self) -> Diagnostic {
        self.severity = Severity::Hint;
        self
    }
    /// Names the lint.
    pub fn code(mut self, code: &'static str) -> Diagnostic {
        self.code = code;
        self
    }
    /// Adds why it matters and what to do.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: error: message`, the line of the file, a caret under the word, what was expected, and for lints
    /// why it matters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.code.is_empty() { String::new() } else { format!("[{}]", self.code) };
        let severity = self.severity.word();
        writeln!(f, "{}:{}:{}: {severity}{code}: {}", self.file, self.line, self.column, self.message)?;
        let number = self.line.to_string();
        // Tabs are kept in the padding so that the caret stands under the word in every terminal.
        let pad: String =
            self.source_line.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(self.word.chars().count().max(1));
        writeln!(f, "{number} | {}", self.source_line)?;
        write!(f, "{} | {pad}{carets}", " ".repeat(number.len()))?;
        match (self.expected.is_empty(), &self.suggestion) {
            (true, None) => Ok(()),
            (true, Some(near)) => write!(f, " did you mean `{near}`?"),
            (false, None) => write!(f, " expected {}", self.expected),
            (false, Some(near)) => write!(f, " expected {}; did you mean `{near}`?", self.expected),
        }?;
        match self.help.is_empty() {
            true => Ok(()),
            false => write!(f, "\n{} = {}", " ".repeat(number.len()), self.help),
        }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The one of `known` that `word` was probably meant to be: at most a third of its letters (but one is always
/// forgiven) differ.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|k| (distance(&word, &k.to_lowercase()), k))
        .filter(|(d, k)| *d <= allowed && *d < k.chars().count())
        // Of two equally near, the one of the same length: swapped letters are commoner than lost ones.
        .min_by_key(|(d, k)| (*d, k.chars().count().abs_diff(word.chars().count())))
        .map(|(_, k)| k)
}

/// Edit distance in which two swapped neighbours count as one edit (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Names are short; a hostile long word is no near miss of anything.
    if a.len().abs_diff(b.len()) > 16 || a.len() > 128 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_word() {
        let text = "a = 1\n\twhen = \"clinet\"\n";
        let at = text.find("clinet").unwrap();
        let d = Diagnostic::at("p.toml", text, at..at + 6, "unknown fact `clinet`")
            .expected("a fact")
            .near("clinet", ["client", "helo"]);
        assert_eq!((d.line, d.column, d.word.as_str()), (2, 10, "clinet"));
        assert_eq!(
            d.to_string(),
            "p.toml:2:10: error: unknown fact `clinet`\n2 | \twhen = \"clinet\"\n  | \t        ^^^^^^ expected a fact; did you mean `client`?"
        );
    }

    #[test]
    fn near_misses_and_strangers() {
        assert_eq!(nearest("recject", ["reject", "defer"]), Some("reject"));
        assert_eq!(nearest("tsl", ["tls", "user"]), Some("tls"));
        assert_eq!(nearest("zebra", ["reject", "defer"]), None);
        assert_eq!(nearest("x", ["a"]), None);
    }

    #[test]
    fn offsets_outside_the_text_are_clamped() {
        let d = Diagnostic::at("p", "é", 1..99, "m");
        assert_eq!((d.line, d.column), (1, 1));
        assert_eq!(Diagnostic::at("p", "", 5..9, "m").column, 1);
    }
}
