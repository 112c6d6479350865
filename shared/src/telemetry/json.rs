//! Lines for machines: an object each, of `timestamp`, `level`, `target`, `message` and the fields of what is said.

use super::is_left_out;
use crate::clock;
use chrono::SecondsFormat;
use serde_json::{Map, Value};
use std::fmt::{self, Debug};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How events are written.
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Line(Map::new());
        let now = clock::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        line.set("timestamp", now);
        line.set("level", event.metadata().level().as_str());
        line.set("target", event.metadata().target());
        event.record(&mut line);
        writeln!(writer, "{}", escaped(&Value::Object(line.0).to_string()))
    }
}

/// JSON in which what a terminal would obey is escaped as well, which may stand in texts alone.
fn escaped(json: &str) -> String {
    let is_obeyed = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match is_obeyed(c) {
            true => escaped += &format!("\\u{:04x}", u32::from(c)),
            false => escaped.push(c),
        }
    }
    escaped
}

struct Line(Map<String, Value>);

impl Line {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        if name == "log.target" {
            self.0.insert("target".to_owned(), value.into());
        } else if !is_left_out(name) {
            self.0.insert(name.to_owned(), value.into());
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_is_obeyed_by_a_terminal() {
        let text = "a\u{1b}[31m\u{9b}31m\u{202e}\nä";
        let escaped = escaped(&Value::from(text).to_string());
        assert!(escaped.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{escaped}");
        assert_eq!(serde_json::from_str::<Value>(&escaped).expect("JSON"), text);
    }
}
