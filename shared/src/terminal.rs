//! What a terminal would take for a command, and what makes text read in another order than it is written. Whatever others
//! chose (names, metadata, a server's words) goes to a terminal or a log without it.

use std::borrow::Cow;

/// Whether a character is a control (C0, C1, delete), ends a line in Unicode, or turns the direction of text.
pub fn is_command(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text on one line: such characters are escaped, and with them line feeds.
pub fn on_one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_command)
}

/// A text on as many lines as it has: such characters are escaped, but for line feeds.
pub fn on_its_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_command(c) && c != '\n')
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_is_obeyed() {
        let text = "a\u{1b}[2J\u{9b}\u{7f}\r\t\n\u{85}\u{2028}b\u{202e}\u{2069}é😀\\";
        assert_eq!(on_one_line(text), "a\\u{1b}[2J\\u{9b}\\u{7f}\\r\\t\\n\\u{85}\\u{2028}b\\u{202e}\\u{2069}é😀\\");
        assert_eq!(on_its_lines("a\u{7}\nb"), "a\\u{7}\nb");
        assert!(matches!(on_one_line("plain é"), Cow::Borrowed(_)));
    }
}
