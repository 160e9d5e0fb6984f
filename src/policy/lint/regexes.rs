//! Patterns that cost much or ask nothing.
//!
//! Matching takes time in proportion to the text and to the compiled pattern, so the size of the latter is measured: by
//! compiling it within less and less memory. How it fails: it does not.

use super::RuleText;
use super::logic::Test;
use crate::policy::source::Reader;
use regex::RegexBuilder;

/// Octets of a compiled pattern beyond which it is worth a word: some fifty times that of an ordinary one.
const OCTETS_MANY: usize = 128 * 1024;

/// Looks at the patterns of a rule.
pub fn check(reader: &mut Reader<'_>, rule: &RuleText) {
    let (Some(when), Some(alternatives)) = (&rule.when, &rule.alternatives) else { return };
    let mut seen = Vec::new();
    for atom in alternatives.iter().flatten() {
        let Test::Matches(regex, pattern) = &atom.test else { continue };
        if seen.contains(&atom.span.start) {
            continue;
        }
        seen.push(atom.span.start);
        if RegexBuilder::new(pattern).size_limit(OCTETS_MANY).build().is_err() {
            let message = format!("this pattern compiles to more than {} KiB", OCTETS_MANY / 1024);
            let help = "counted repetitions of classes (`\\w{100}`, `(a|b){500}`) and classes of all Unicode are what makes \
                        it so large; match less, or use `(?-u:…)` for ASCII; every text it is asked about pays for it";
            let finding = reader.inside(when, atom.span.clone(), message).warning().code("slow-regex").help(help);
            reader.report(finding);
        } else if ["", "x", "\u{1}~ \u{e9}"].iter().all(|text| regex.is_match(text)) {
            let message = format!("/{}/ matches every text", pattern.trim_start_matches("(?i:"));
            let help = "a pattern is looked for anywhere in the text unless `^` and `$` hold it";
            let finding =
                reader.inside(when, atom.span.clone(), message).warning().code("regex-matches-everything").help(help);
            reader.report(finding);
        }
    }
}
