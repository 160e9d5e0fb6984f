//! What became of messages, from a file: one line a message, JSON (`{"message_id":"<…>","label":"spam"}` or with
//! `"session"`), or words (`<id> spam`). `spam` and `junk`, `ham`, `good` and `not-junk` are known.
//!
//! How it fails: lines that are neither are counted and the first is told; a message labelled both ways is left out.

use std::collections::HashMap;

/// Outcomes by Message-ID or session.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    by_id: HashMap<String, Option<bool>>,
    /// Lines that could not be read, and the first of them.
    pub unread: u64,
    /// The number of the first line that could not be read.
    pub first_unread: Option<u64>,
}

impl Labels {
    /// Reads a file.
    pub fn parse(text: &str) -> Labels {
        let mut labels = Labels::default();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match read(line) {
                Some((id, spam)) => labels.add(id, spam),
                None => {
                    labels.unread += 1;
                    labels.first_unread.get_or_insert(i as u64 + 1);
                }
            }
        }
        labels
    }

    fn add(&mut self, id: String, spam: bool) {
        let known = self.by_id.entry(id).or_insert(Some(spam));
        if *known != Some(spam) {
            *known = None; // one reader says this, another that
        }
    }
    /// Whether the message of this id, or of this session, is spam.
    pub fn spam(&self, id: &str) -> Option<bool> {
        self.by_id.get(id).copied().flatten()
    }
    /// Spam and ham that is known.
    pub fn counts(&self) -> (usize, usize) {
        let of = |spam| self.by_id.values().filter(|l| **l == Some(spam)).count();
        (of(true), of(false))
    }
}

fn read(line: &str) -> Option<(String, bool)> {
    if line.starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        let id = value.get("message_id").or_else(|| value.get("session"))?.as_str()?;
        return Some((id.to_owned(), word(value.get("label")?.as_str()?)?));
    }
    let (id, label) = line.rsplit_once(char::is_whitespace)?;
    Some((id.trim().to_owned(), word(label)?))
}

fn word(label: &str) -> Option<bool> {
    match label.to_ascii_lowercase().as_str() {
        "spam" | "junk" => Some(true),
        "ham" | "good" | "not-junk" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_both_opinions() {
        let text = "{\"message_id\":\"<1@x>\",\"label\":\"spam\"}\n# remark\n<2@x>\tham\nS3 Junk\n{\"session\":\"S4\",\"label\":\"good\"}\n\
                    <2@x> ham\n<5@x> ham\n<5@x> spam\nnonsense\n{\"label\":\"spam\"}\n{\n";
        let labels = Labels::parse(text);
        assert_eq!(
            ["<1@x>", "<2@x>", "S3", "S4", "<5@x>", "x"].map(|id| labels.spam(id)),
            [Some(true), Some(false), Some(true), Some(false), None, None]
        );
        assert_eq!((labels.counts(), labels.unread, labels.first_unread), ((2, 2), 3, Some(9)));
    }
}
