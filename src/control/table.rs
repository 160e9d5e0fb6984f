//! Aligned columns for people.
//!
//! How it fails: it does not. What a sender wrote cannot steer the terminal it is shown on.

/// Rows below a head, columns aligned; the last column is not padded.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut all: Vec<Vec<String>> = vec![head.iter().map(|h| (*h).to_owned()).collect()];
    all.extend(rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()));
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &all {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Controls and marks that turn the direction of writing become `\u{…}`.
pub fn visible(text: &str) -> String {
    let hidden = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(hidden) {
        return text.to_owned();
    }
    text.chars().map(|c| if hidden(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["1".into(), "grün".into(), "a b".into()], vec!["22".into(), "\u{1b}[".into(), String::new()]];
        assert_eq!(table(&["N", "WORD", "REST"], &rows), "N   WORD     REST\n1   grün     a b\n22  \\u{1b}[\n");
    }
}
