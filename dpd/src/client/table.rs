//! Tables for people: columns as wide as they must be, and nothing that a terminal would take for a command.

use indicatif::HumanBytes;
use serde_json::Value;
use shared::terminal::is_command;

/// Rows under a heading, as lines. The last column is not padded.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut lines = vec![heading.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()));
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Text on one line, without what a terminal would take for a command: it comes from metadata.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_command(c) { '\u{fffd}' } else { c }).collect()
}

/// A value as a cell: text as it is, what is nested as JSON, nothing for null.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A number of bytes, for people.
pub(crate) fn bytes(value: &Value) -> String {
    value.as_u64().map_or_else(String::new, |bytes| HumanBytes(bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "b\u{1b}[2J\n".to_owned()], vec!["éé".to_owned(), String::new()]];
        assert_eq!(table(&["N", "WHAT"], &rows), "N   WHAT\na   b\u{fffd}[2J\u{fffd}\néé");
    }
}
