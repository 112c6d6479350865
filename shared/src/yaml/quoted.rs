//! Quoted scalars that hold a raw line break which YAML 1.1 has and YAML 1.2 has not: U+0085, U+2028 and U+2029.
//!
//! To the parser they are characters like others. PyYAML folds lines at them, and whatever it wrote in single quotes with
//! `allow_unicode` has them raw. So such a scalar is read again here from where it stands, as PyYAML does. Anywhere else they
//! could begin another line of the document, and are refused.

use granit_parser::{Event, Parser, Span};
use std::borrow::Cow;

/// The line breaks of YAML 1.1 only.
fn is_old_break(c: char) -> bool {
    matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// A document's text, and how far it was seen that such breaks are in quoted scalars alone.
#[derive(Debug)]
pub(super) struct Source<'a> {
    text: &'a str,
    /// Whether there is one at all.
    has_breaks: bool,
    seen: usize,
    stray: Option<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Source<'a> {
        Source { text, has_breaks: text.contains(is_old_break), seen: 0, stray: None }
    }

    /// The text for the parser, in which everything is where it is in the document. It knows no escaped break of this kind,
    /// so that the backslash of one is another character there.
    pub(super) fn for_parser(&self) -> Cow<'a, str> {
        if !self.has_breaks {
            return Cow::Borrowed(self.text);
        }
        let mut backslashes = 0;
        let escaped = self.text.char_indices().filter(|(_, c)| {
            let escaped = is_old_break(*c) && backslashes % 2 == 1;
            backslashes = if *c == '\\' { backslashes + 1 } else { 0 };
            escaped
        });
        let mut text = String::with_capacity(self.text.len());
        for (at, _) in escaped {
            text.push_str(&self.text[text.len()..at - 1]);
            text.push('x');
        }
        text.push_str(&self.text[text.len()..]);
        Cow::Owned(text)
    }

    /// The text of a quoted scalar where it holds such a break; `None` where it is as the parser read it. They are asked for in
    /// their order.
    pub(super) fn read_again(&mut self, span: &Span) -> Result<Option<String>, String> {
        let Some(range) = span.byte_range().filter(|_| self.has_breaks) else { return Ok(None) };
        self.stray = self.stray.or_else(|| self.first(self.seen, range.start));
        self.seen = range.end;
        match self.first(range.start, range.end) {
            None => Ok(None),
            Some(_) => read(self.text.get(range).unwrap_or_default()).map(Some),
        }
    }

    /// Where the first is that is in no quoted scalar.
    pub(super) fn stray(&self) -> Option<usize> {
        self.stray.or_else(|| self.first(self.seen, self.text.len()))
    }

    fn first(&self, from: usize, to: usize) -> Option<usize> {
        self.text.get(from..to)?.find(is_old_break).map(|at| from + at)
    }
}

/// What a quoted scalar says, with its quotes.
fn read(quoted: &str) -> Result<String, String> {
    let inside = |quote: char| quoted.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(inner) = inside('\'') {
        return folded(inner, false);
    }
    let inner = inside('"').ok_or("a line break of YAML 1.1 stands where it may not")?;
    // Escapes are the parser's to read.
    let line = format!("\"{}\"", folded(inner, true)?);
    for event in Parser::new_from_str(&line) {
        match event {
            Ok((Event::Scalar(text, ..), _)) => return Ok(text.into_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.info().to_string()),
        }
    }
    Ok(String::new())
}

/// The inside of a quoted scalar on one line: in double quotes with its escapes, among them those of breaks that stay.
fn folded(inner: &str, double: bool) -> Result<String, String> {
    let (mut line, mut rest) = (String::with_capacity(inner.len()), inner);
    let put = |line: &mut String, c: char| match c {
        '\n' if double => line.push_str("\\n"),
        '\u{2028}' if double => line.push_str("\\L"),
        '\u{2029}' if double => line.push_str("\\P"),
        c => line.push(c),
    };
    while let Some(c) = rest.chars().next() {
        let words = rest.trim_start_matches([' ', '\t']);
        if let Some((first, after)) = line_break(words) {
            let (more, after) = line_breaks(after)?;
            match first {
                '\n' if more.is_empty() => line.push(' '),
                '\n' => {}
                kept => put(&mut line, kept),
            }
            more.into_iter().for_each(|c| put(&mut line, c));
            rest = after;
        } else if words.len() < rest.len() {
            line.push_str(&rest[..rest.len() - words.len()]);
            rest = words;
        } else if double && c == '\\' {
            let after = &rest[1..];
            if let Some((_, after)) = line_break(after) {
                let (more, after) = line_breaks(after)?;
                more.into_iter().for_each(|c| put(&mut line, c));
                rest = after;
            } else {
                let escaped = after.chars().next().map_or(0, char::len_utf8);
                line.push_str(&rest[..1 + escaped]);
                rest = &after[escaped..];
            }
        } else {
            line.push(c);
            rest = &rest[c.len_utf8()..];
            if !double && c == '\'' {
                rest = rest.strip_prefix('\'').unwrap_or(rest);
            }
        }
    }
    Ok(line)
}

/// The line break that a text begins with, as it is read, and the rest.
fn line_break(text: &str) -> Option<(char, &str)> {
    if let Some(rest) = text.strip_prefix("\r\n") {
        return Some(('\n', rest));
    }
    let c = text.chars().next()?;
    match c {
        '\n' | '\r' | '\u{85}' => Some(('\n', &text[c.len_utf8()..])),
        '\u{2028}' | '\u{2029}' => Some((c, &text[c.len_utf8()..])),
        _ => None,
    }
}

/// The line breaks of empty lines after one, and the rest from the first word on.
fn line_breaks(mut text: &str) -> Result<(Vec<char>, &str), String> {
    let mut breaks = Vec::new();
    loop {
        let marker = text.strip_prefix("---").or_else(|| text.strip_prefix("..."));
        if marker.is_some_and(|rest| rest.starts_with([' ', '\t']) || line_break(rest).is_some()) {
            return Err("a marker of a document stands in a quoted scalar".to_owned());
        }
        let words = text.trim_start_matches([' ', '\t']);
        let Some((c, after)) = line_break(words) else { return Ok((breaks, words)) };
        breaks.push(c);
        text = after;
    }
}
