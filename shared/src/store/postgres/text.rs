//! Text that PostgreSQL cannot hold as it is: what it calls text has no U+0000.

use std::borrow::Cow;

/// A name for a column that is looked up whole: different names stay different, and plain ones readable. Where a dot is
/// in the name, it is in the result, and nowhere else.
pub(super) fn escaped(name: &str) -> Cow<'_, str> {
    if name.contains(['\\', '\0']) { name.replace('\\', "\\\\").replace('\0', "\\0").into() } else { name.into() }
}

/// What [`escaped`] was made from.
pub(super) fn unescaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(char) = chars.next() {
        text.push(match char {
            '\\' if chars.next() == Some('0') => '\0',
            // What follows a backslash is 0 or another one.
            other => other,
        });
    }
    text
}

/// A text for people to read.
pub(super) fn shown(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_loses_nothing() {
        for name in ["", "plain.key", "a\0b", "a\\0b", "\\", "\\\\0", "\0\\", "ä\0"] {
            let text = escaped(name);
            assert!(!text.contains('\0'));
            assert_eq!(unescaped(&text), name);
        }
    }
}
