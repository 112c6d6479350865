//! Text as searches compare it, and what a client's text means for a number.

use crate::number::Number;
use crate::yaml;
use serde_json::Value;
use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// A text to look for, and what it is as a number.
///
/// Whatever is asked of a text (that a value contains it, begins or ends with it, is it) also holds for a number that is the
/// one that the text reads as, however either is written: a value is found as it stands in its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    folded: String,
    /// The number that it is in decimal digits.
    decimal: Option<Number>,
    /// The number that it would be in a metadata file, where that is another: `0x1F`, `1_000`, `12:30:45`.
    in_file: Option<Number>,
}

impl Text {
    /// The text as written by a client.
    pub fn new(text: &str) -> Text {
        let decimal = Number::read(text);
        let in_file = yaml::number(text.trim()).as_ref().and_then(Number::of).filter(|number| decimal != Some(*number));
        Text { folded: fold(text).into_owned(), decimal, in_file }
    }

    /// The text as it is compared.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// The numbers that it reads as.
    pub fn numbers(&self) -> impl Iterator<Item = Number> {
        self.decimal.into_iter().chain(self.in_file)
    }

    /// Whether a leaf is a number that it reads as.
    pub(super) fn is_number(&self, leaf: &Value) -> bool {
        Number::of(leaf).is_some_and(|leaf| self.numbers().any(|number| number == leaf))
    }
}

/// A leaf's text as it is compared: strings [folded](fold), numbers and booleans as JSON writes them.
pub fn folded_text(leaf: &Value) -> Cow<'_, str> {
    match leaf {
        Value::String(text) => fold(text),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        other => Cow::Owned(other.to_string()),
    }
}

/// A text without what does not count when texts are compared: case, character by character, and whether characters are
/// composed (Unicode's normal form C).
///
/// Characters are the same where one is the other's upper or lower case, wherever they stand: Σ, σ and ς, or K and the
/// Kelvin sign.
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        let folded = !text.bytes().any(|b| b.is_ascii_uppercase());
        return if folded { Cow::Borrowed(text) } else { Cow::Owned(text.to_ascii_lowercase()) };
    }
    let mut folded = String::with_capacity(text.len());
    for c in composed(text).chars() {
        if c.is_ascii() { folded.push(c.to_ascii_lowercase()) } else { folded.extend(folded_char(c)) }
    }
    // A character in lower case may compose where it does not in upper case.
    Cow::Owned(match composed(&folded) {
        Cow::Borrowed(_) => folded,
        Cow::Owned(composed) => composed,
    })
}

fn composed(text: &str) -> Cow<'_, str> {
    // The first character that composes is U+0300, whose first byte is 0xCC.
    if text.bytes().all(|b| b < 0xcc) {
        return Cow::Borrowed(text);
    }
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    }
}

/// Lower case by way of upper case, which brings those together that have one upper case, where that is one character.
fn folded_char(c: char) -> std::char::ToLowercase {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => upper.to_lowercase(),
        _ => c.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn letters_are_the_same_in_every_case_and_form() {
        for same in [
            &["ΣΙΓΜΑΣ", "σιγμας", "σιγμασ", "Σιγμας"][..],
            &["é", "É", "e\u{301}", "E\u{301}"],
            &["K", "k", "\u{212a}"],
            &["Å", "å", "\u{212b}", "A\u{30a}"],
            &["ß", "ẞ"],
            &["İ", "I\u{307}", "i\u{307}"],
            &["J\u{30c}", "ǰ", "j\u{30c}"],
            &["5 µJy", "5 μJY", "5 ΜJY"],
            &["ǅ", "Ǆ", "ǆ"],
            &["ſ", "S", "s"],
            &["가", "\u{1100}\u{1161}"],
            &["ᾴ", "α\u{301}\u{345}", "α\u{345}\u{301}"],
        ] {
            for text in same {
                assert_eq!(fold(text), fold(same[0]), "{text} {}", same[0]);
            }
        }
        for (one, other) in [("e", "é"), ("ss", "ß"), ("a", "ä"), ("²", "2"), ("ﬁ", "fi")] {
            assert_ne!(fold(one), fold(other));
        }
        assert!(matches!(fold("plain ascii 1.0"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_text_is_the_number_that_it_would_be_in_a_file() {
        for (text, number) in [
            ("2.5e-07", json!(2.5e-7)),
            ("0.00000025", json!(2.5e-7)),
            ("1.0", json!(1)),
            ("1e3", json!(1000.0)),
            ("+5", json!(5)),
            (" 5 ", json!(5)),
            ("1_000", json!(1000)),
            ("0x1F", json!(31)),
            ("0777", json!(511)),
            ("0777", json!(777)),
            ("12:30:45", json!(45045)),
            ("9007199254740993", json!(9_007_199_254_740_993_i64)),
        ] {
            assert!(Text::new(text).is_number(&number), "{text} {number}");
        }
        for (text, leaf) in [
            ("9007199254740993", json!(9_007_199_254_740_992_i64)),
            ("9007199254740993", json!(9_007_199_254_740_992.0)),
            ("4", json!("4.0")),
            ("true", json!(1)),
            (".inf", json!(1e300)),
            ("", json!(0)),
        ] {
            assert!(!Text::new(text).is_number(&leaf), "{text} {leaf}");
        }
    }

    #[test]
    fn every_character_is_the_same_in_every_case_and_form() {
        for c in '\0'..=char::MAX {
            let (text, folded) = (c.to_string(), fold(c.encode_utf8(&mut [0; 4])).into_owned());
            let upper = text.to_uppercase();
            let upper = if upper.chars().count() == 1 { upper } else { text.clone() };
            for same in [text.to_lowercase(), upper, text.nfd().collect(), text.nfc().collect(), folded.clone()] {
                assert_eq!(fold(&same), folded, "{c:?} {same:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn folding_forgets_case_and_form(text in "[a-zA-ZΑ-ω\\PCẞßİıſµςſʼnǰΐﬁK\u{300}-\u{345}\u{1100}-\u{11ff}]{0,12}") {
            let folded = fold(&text).into_owned();
            prop_assert_eq!(fold(&folded), folded.as_str(), "folded once is folded");
            for same in [text.nfd().collect(), text.nfc().collect(), text.to_lowercase()] {
                prop_assert_eq!(fold(&same), folded.as_str(), "{}", same);
            }
        }

        #[test]
        fn a_text_contains_its_parts(words in prop::collection::vec("[ΣσςİıA-Za-zßẞéÀ-ÿ]{0,4}", 3)) {
            let whole = words.concat();
            prop_assert!(fold(&whole).contains(&*fold(&words[1])), "{} in {}", words[1], whole);
        }
    }
}
