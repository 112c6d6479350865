//! Metadata files: YAML 1.1 bytes to a JSON value, as PyYAML's `safe_load` reads them.
//!
//! The events come from a parser library; what they mean (which scalar is which value, merges, tags, aliases) is
//! decided here, with budgets on size, depth and alias expansion, so that a hostile file costs little and is an error.

mod quoted;
mod scalar;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};
use quoted::Source;
use scalar::{Resolved, resolve};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The largest file that is read, in bytes (exclusive).
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// The deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 100;
/// How many values a file may have, lists and maps among them.
const MAX_NODES: usize = 1_000_000;
/// How many nodes the aliases of one file may stand for, all together.
const MAX_ALIASED_NODES: usize = 50_000;
/// How many bytes of text the aliases of one file may stand for, all together.
const MAX_ALIASED_BYTES: usize = 1024 * 1024;

/// Why bytes are no metadata. Line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (line {line}, column {column})")]
pub struct YamlError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, for a person.
    pub message: String,
}

impl YamlError {
    fn new(line: usize, column: usize, message: impl Into<String>) -> Self {
        YamlError { line, column, message: message.into() }
    }

    fn at(span: &Span, message: impl Into<String>) -> Self {
        Self::new(span.start.line(), span.start.col() + 1, message)
    }
}

/// Reads one document, as `yaml.safe_load` does. An empty document is null.
///
/// # Errors
/// Whatever PyYAML refuses, and what is too large, too deep, recursive, or expands past its budget.
pub fn parse(bytes: &[u8]) -> Result<Value, YamlError> {
    if bytes.len() >= MAX_BYTES {
        return Err(YamlError::new(
            1,
            1,
            format!("the file is {} bytes; {MAX_BYTES} or more are not read", bytes.len()),
        ));
    }
    let text = decode(bytes)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    check_characters(text)?;
    let mut source = Source::new(text);
    let text = source.for_parser();
    // A file cut off in a block scalar has no line feed there; PyYAML adds none.
    let options = granit_parser::options! { emit_anchor_events: true, block_scalar_eof_without_line_feed: true };
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(&text, options) {
        let (event, span) =
            next.map_err(|e| YamlError::new(e.marker().line(), e.marker().col() + 1, e.info().to_string()))?;
        builder.event(again(event, &span, &mut source, builder.expects_key())?, &span)?;
    }
    if let Some(at) = source.stray() {
        return Err(unescaped(&text, at));
    }
    Ok(builder.root.unwrap_or(Value::Null))
}

/// The event with a quoted scalar's text as YAML 1.1 has it.
fn again<'a>(event: Event<'a>, span: &Span, source: &mut Source<'_>, is_key: bool) -> Result<Event<'a>, YamlError> {
    let Event::Scalar(text, style @ (ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted), anchor, tag) = event
    else {
        return Ok(event);
    };
    let text = match source.read_again(span).map_err(|message| YamlError::at(span, message))? {
        Some(_) if is_key => return Err(YamlError::at(span, "a key goes on over a line break of YAML 1.1")),
        Some(text) => text.into(),
        None => text,
    };
    Ok(Event::Scalar(text, style, anchor, tag))
}

/// The number that a plain scalar of this text is, where it is one that JSON can hold.
pub fn number(text: &str) -> Option<Value> {
    match scalar::resolve(text) {
        Ok(Resolved::Value(number @ Value::Number(_))) => Some(number),
        _ => None,
    }
}

/// Whether a text is what is kept of a float that JSON cannot hold: `.inf`, `.nan`, or one that is too large.
pub fn is_non_finite(text: &str) -> bool {
    text.starts_with(['.', '+', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) && scalar::is_non_finite(text)
}

/// UTF-8, or UTF-16 with its byte order mark.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, YamlError> {
    let utf16 = |read: fn([u8; 2]) -> u16| {
        let refuse = || YamlError::new(1, 1, "the file is not valid UTF-16");
        let pairs = bytes[2..].chunks_exact(2);
        // Half a character at the end: the file is still being written.
        if !pairs.remainder().is_empty() {
            return Err(refuse());
        }
        let text: Result<String, _> = char::decode_utf16(pairs.map(|pair| read([pair[0], pair[1]]))).collect();
        text.map(Into::into).map_err(|_| refuse())
    };
    match bytes {
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
        _ => std::str::from_utf8(bytes).map(Into::into).map_err(|e| {
            let before = String::from_utf8_lossy(&bytes[..e.valid_up_to()]);
            let (line, column) = position(&before);
            YamlError::new(line, column, "the file is not valid UTF-8")
        }),
    }
}

/// Where the text after `before` stands: line and column, from 1.
fn position(before: &str) -> (usize, usize) {
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The characters that a YAML 1.1 stream may hold, less a byte order mark that is not the file's first character: text in
/// PyYAML, which writes it as an escape only, and nothing in YAML 1.2. The line breaks that YAML 1.1 alone has may stand in
/// [quoted scalars](quoted).
fn check_characters(text: &str) -> Result<(), YamlError> {
    let allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{7e}' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
            && c != '\u{feff}'
    };
    match text.char_indices().find(|&(_, c)| !allowed(c)) {
        None => Ok(()),
        Some((at, _)) => Err(unescaped(text, at)),
    }
}

fn unescaped(text: &str, at: usize) -> YamlError {
    let (line, column) = position(&text[..at]);
    let c = text[at..].chars().next().map_or(0, u32::from);
    YamlError::new(line, column, format!("the character U+{c:04X} may not stand unescaped here"))
}

/// How much a value is, for the alias budget.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
}

impl Weight {
    fn add(&mut self, other: Weight) {
        self.nodes += other.nodes;
        self.bytes += other.bytes;
    }
}

/// What a key in a mapping is.
enum Key {
    Name(String),
    Merge,
}

/// A collection whose end is still to come.
enum Open {
    /// `pairs`: each item has to be a map of one key (`!!omap`, `!!pairs`).
    Sequence { items: Vec<Value>, pairs: bool },
    /// `set`: the keys are all that counts (`!!set`).
    Mapping { own: Map<String, Value>, merged: Vec<Map<String, Value>>, key: Option<Key>, set: bool },
}

struct Frame {
    open: Open,
    /// Written as `[…]` or `{…}`.
    flow: bool,
    anchor: usize,
    weight: Weight,
}

#[derive(Default)]
struct Builder {
    root: Option<Value>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Value, Weight)>,
    names: HashSet<String>,
    aliased: Weight,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlError> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(YamlError::at(span, "expected a single document, but found another one"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                if style == ScalarStyle::Plain {
                    self.check_plain(&text, anchor > 0 || tag.is_some(), span)?;
                }
                let node = scalar_node(&text, style, tag.as_deref()).map_err(|m| YamlError::at(span, m))?;
                let weight = Weight { nodes: 1, bytes: text.len() };
                self.scalar(node, anchor, weight, span)
            }
            Event::SequenceStart(style, anchor, tag) => {
                let tag = list_or_map(tag.as_deref(), &["seq", "omap", "pairs"]).map_err(|m| YamlError::at(span, m))?;
                let pairs = matches!(tag.as_deref(), Some("omap" | "pairs"));
                self.open(Open::Sequence { items: Vec::new(), pairs }, style, anchor, span)
            }
            Event::MappingStart(style, anchor, tag) => {
                let tag = list_or_map(tag.as_deref(), &["map", "set"]).map_err(|m| YamlError::at(span, m))?;
                let set = tag.as_deref() == Some("set");
                self.open(Open::Mapping { own: Map::new(), merged: Vec::new(), key: None, set }, style, anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::Anchor(_, name) => self.name(name.into_owned(), span),
            _ => Ok(()),
        }
    }

    /// Two things that the parser reads and PyYAML does not, or as something else.
    fn check_plain(&self, text: &str, named: bool, span: &Span) -> Result<(), YamlError> {
        // No typo shall make a key `null`: PyYAML refuses `: b`. It reads `? ⏎: b`, which nobody writes.
        if span.is_empty() && !named && self.expects_key() {
            return Err(YamlError::at(span, "a key is missing before ':'"));
        }
        // In `[…]` and `{…}`, YAML 1.1 takes `?` and a leading `:` for what marks a key and a value, even without a
        // space after it: `{?a: b}` has the key `a`.
        if self.stack.last().is_some_and(|frame| frame.flow) && (text.contains('?') || text.starts_with(':')) {
            return Err(YamlError::at(span, format!("quote '{text}' here: '?' and ':' mark keys and values")));
        }
        Ok(())
    }

    /// An anchor's name: YAML 1.1 ends it where YAML 1.2 may go on (`&a: b` is a key that is named `a`).
    fn name(&mut self, name: String, span: &Span) -> Result<(), YamlError> {
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return Err(YamlError::at(span, format!("the anchor '{name}' may hold letters, digits, '-' and '_' only")));
        }
        if self.names.contains(&name) {
            return Err(YamlError::at(span, format!("the anchor '{name}' is defined twice")));
        }
        self.names.insert(name);
        Ok(())
    }

    fn scalar(&mut self, node: Resolved, anchor: usize, weight: Weight, span: &Span) -> Result<(), YamlError> {
        let value = match (node, self.expects_key()) {
            (Resolved::Value(value), _) => value,
            (Resolved::Default, true) => Value::from("="),
            (Resolved::Merge, true) => {
                if let Some(Frame { open: Open::Mapping { key, .. }, .. }) = self.stack.last_mut() {
                    *key = Some(Key::Merge);
                }
                return Ok(());
            }
            (Resolved::Merge | Resolved::Default, false) => {
                return Err(YamlError::at(span, "a plain '<<' or '=' is no value; quote it"));
            }
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), weight));
        }
        self.add(value, weight, span)
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { open: Open::Mapping { key: None, .. }, .. }))
    }

    fn open(&mut self, open: Open, style: StructureStyle, anchor: usize, span: &Span) -> Result<(), YamlError> {
        if self.expects_key() {
            return Err(YamlError::at(span, "a list or a map cannot be a key"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(YamlError::at(span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let flow = style == StructureStyle::Flow;
        self.stack.push(Frame { open, flow, anchor, weight: Weight { nodes: 1, bytes: 0 } });
        Ok(())
    }

    fn close(&mut self, span: &Span) -> Result<(), YamlError> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.open {
            Open::Sequence { items, pairs: true } if !items.iter().all(is_pair) => {
                return Err(YamlError::at(span, "each item of '!!omap' and '!!pairs' is a map of one key"));
            }
            Open::Sequence { items, .. } => Value::Array(items),
            Open::Mapping { own, merged, set, .. } => {
                let mut all = own;
                if !merged.is_empty() {
                    // The mapping's own keys win over what it merges.
                    let own = std::mem::take(&mut all);
                    merged.into_iter().chain([own]).for_each(|source| all.extend(source));
                }
                if set {
                    all.values_mut().for_each(|value| *value = Value::Null);
                }
                Value::Object(all)
            }
        };
        if frame.anchor > 0 {
            self.anchors.insert(frame.anchor, (value.clone(), frame.weight));
        }
        self.add(value, frame.weight, span)
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<(), YamlError> {
        let Some((value, weight)) = self.anchors.get(&anchor) else {
            return Err(YamlError::at(span, "an alias stands inside what it names"));
        };
        let weight = *weight;
        self.aliased.add(weight);
        if self.aliased.nodes > MAX_ALIASED_NODES || self.aliased.bytes > MAX_ALIASED_BYTES {
            return Err(YamlError::at(span, "the aliases expand to too much"));
        }
        if self.expects_key() && (value.is_array() || value.is_object()) {
            return Err(YamlError::at(span, "a list or a map cannot be a key"));
        }
        let value = value.clone();
        self.add(value, weight, span)
    }

    /// Puts a finished value where it belongs: the root, a list, or a map's key or value.
    fn add(&mut self, value: Value, weight: Weight, span: &Span) -> Result<(), YamlError> {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        frame.weight.add(weight);
        if frame.weight.nodes > MAX_NODES {
            return Err(YamlError::at(span, "too many values"));
        }
        match &mut frame.open {
            Open::Sequence { items, .. } => items.push(value),
            Open::Mapping { own, merged, key, .. } => match key.take() {
                None => *key = Some(Key::Name(key_name(value))),
                // As in Python, the last of equal keys wins and the first keeps its place.
                Some(Key::Name(name)) => drop(own.insert(name, value)),
                Some(Key::Merge) => merged.extend(merge_sources(value).map_err(|m| YamlError::at(span, m))?),
            },
        }
        Ok(())
    }
}

fn is_pair(item: &Value) -> bool {
    item.as_object().is_some_and(|map| map.len() == 1)
}

/// How a key that is no string is written in JSON (as Python's `json.dumps` does).
fn key_name(value: Value) -> String {
    match value {
        Value::String(name) => name,
        Value::Number(number) if number.is_f64() => float_name(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// A float as Python writes it: as Rust does, but the exponent has a sign and two digits (`1e-05`, `1e+16`).
fn float_name(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
        None => text,
    }
}

/// The maps that one `<<` brings, the strongest last: in a list, earlier maps win over later ones.
fn merge_sources(value: Value) -> Result<Vec<Map<String, Value>>, String> {
    let refuse = || "'<<' takes a map or a list of maps".to_owned();
    match value {
        Value::Object(map) => Ok(vec![map]),
        Value::Array(items) => items
            .into_iter()
            .rev()
            .map(|item| match item {
                Value::Object(map) => Ok(map),
                _ => Err(refuse()),
            })
            .collect(),
        _ => Err(refuse()),
    }
}

/// The suffix of a tag of YAML's own; `None` for no tag (and for `!`, which asks for the usual resolution).
fn core_tag(tag: Option<&Tag>) -> Result<Option<Cow<'_, str>>, String> {
    match tag {
        None => Ok(None),
        Some(tag) if tag.handle().is_empty() && tag.suffix() == "!" || tag.original() == "!" => Ok(None),
        Some(tag) => match tag.suffix_in_namespace("tag:yaml.org,2002:") {
            Some(suffix) => Ok(Some(suffix)),
            None => Err(format!("the tag '{}' is not known", tag.original())),
        },
    }
}

/// The tag of a list or a map, which has to be one of those allowed.
fn list_or_map<'a>(tag: Option<&'a Tag>, allowed: &[&str]) -> Result<Option<Cow<'a, str>>, String> {
    match core_tag(tag)? {
        Some(suffix) if !allowed.contains(&&*suffix) => {
            Err(format!("the tag '!!{suffix}' is not known, or does not fit a list or a map"))
        }
        fits => Ok(fits),
    }
}

fn scalar_node(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Resolved, String> {
    let value = match core_tag(tag)?.as_deref() {
        None if style == ScalarStyle::Plain || tag.is_some() => return resolve(text),
        // What JSON has no type for keeps its text.
        None | Some("str" | "timestamp" | "binary") => Value::from(text),
        Some("null") => Value::Null,
        Some("int") => scalar::integer(text)?,
        Some("float") => scalar::float(text)?,
        Some("bool") => scalar::lenient_boolean(&text.to_lowercase())
            .map(Value::Bool)
            .ok_or_else(|| format!("'{text}' is no boolean"))?,
        Some(suffix) => return Err(format!("the tag '!!{suffix}' is not known, or does not fit a scalar")),
    };
    Ok(Resolved::Value(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_a_document() {
        let text = b"a: &x {b: 1, c: [yes, ~]}\nd:\n  <<: *x\n  c: '2'\n1: one\n";
        assert_eq!(parse(text), Ok(json!({"a": {"b": 1, "c": [true, null]}, "d": {"b": 1, "c": "2"}, "1": "one"})));
        assert_eq!(parse(b""), Ok(Value::Null));
    }

    #[test]
    fn tags_of_yaml_1_1() {
        let text = b"a: !!set {x, y: 1}\nb: !!omap [c: 1, d: 2]\ne: !!timestamp '2023-10-31'\nf: !!binary aGk=\n";
        let expected = json!({"a": {"x": null, "y": null}, "b": [{"c": 1}, {"d": 2}], "e": "2023-10-31", "f": "aGk="});
        assert_eq!(parse(text), Ok(expected));
        for bad in ["!!omap [a]", "!!pairs [{a: 1, b: 2}]", "!!set [a]", "!!omap {a: 1}", "!!python/tuple [a]", "!x a"]
        {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_named_as_in_python() {
        for (key, name) in
            [("1.0", "1.0"), ("1.0e-5", "1e-05"), ("1.0e+16", "1e+16"), ("1.5e+100", "1.5e+100"), ("~", "null")]
        {
            assert_eq!(parse(format!("{key}: x").as_bytes()), Ok(json!({ name: "x" })));
        }
    }

    #[test]
    fn what_the_two_versions_read_differently_is_refused() {
        for text in [
            ": a",
            "{: a}",
            "{?a: b}",
            "[:a]",
            "&a: b",
            "a\u{2028}b",
            "a: b\u{85}",
            "a: |\n  b\u{2029}",
            "a: 'b' # \u{2028}",
            "'a\u{2028}b': c",
            "a: \u{feff}b",
            "\u{feff}\u{feff}a: b",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn line_breaks_of_yaml_1_1_fold_in_quoted_scalars() {
        for (text, value) in [
            ("'a\u{85}b'", "a b"),
            ("'a \u{85} \u{85} b'", "a\nb"),
            ("'a\u{2028} b'", "a\u{2028}b"),
            ("'it''s\u{2029}\n b'", "it's\u{2029}\nb"),
            ("\"a\\x41 \u{2028}\u{85}b\\\\\u{85}c\"", "aA\u{2028}\nb\\ c"),
            ("\"a \\\u{2028}  \u{2029} b\"", "a \u{2029}b"),
        ] {
            assert_eq!(parse(format!("k: [{text}, 1]").as_bytes()), Ok(json!({"k": [value, 1]})), "{text:?}");
        }
        let error = parse("a: 'b\u{2028}c'\nd: e\u{2028}".as_bytes()).unwrap_err();
        assert_eq!((error.line, error.column), (2, 5));
    }

    #[test]
    fn half_a_file_is_not_made_whole() {
        assert_eq!(parse(b"a: |\n  b"), Ok(json!({"a": "b"})));
        assert_eq!(parse(b"\xff\xfea\0"), Ok(json!("a")));
        assert!(parse(b"\xff\xfea").is_err());
    }

    #[test]
    fn errors_say_where() {
        let error = parse(b"a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(error.line >= 2, "{error}");
        let error = parse(b"a: 1\nb: \x07\n").unwrap_err();
        assert_eq!((error.line, error.column), (2, 4));
        let error = parse(b"a: 1\nbc: \xff\n").unwrap_err();
        assert_eq!((error.line, error.column), (2, 5));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
        for (name, of) in ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip(["a", "b", "c", "d", "e", "f", "g", "h"])
        {
            let items = vec![format!("*{of}"); 9].join(", ");
            bomb += &format!("{name}: &{name} [{items}]\n");
        }
        assert!(parse(bomb.as_bytes()).unwrap_err().message.contains("expand"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(10_000), vec!["*a"; 1000].join(", "));
        assert!(parse(long.as_bytes()).unwrap_err().message.contains("expand"));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse("- ".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn size_is_bounded() {
        let mut large = b"a: b\n#".to_vec();
        large.resize(MAX_BYTES, b'x');
        assert!(parse(&large).unwrap_err().message.contains("bytes"));
    }
}
