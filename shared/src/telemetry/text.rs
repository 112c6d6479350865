//! Lines for people: `message: error field=value`.

use super::{ERROR, is_left_out};
use crate::terminal::on_one_line;
use std::fmt::{self, Debug, Write as _};
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// How fields are written.
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line::default();
        fields.record(&mut line);
        let Line { message, error, rest } = line;
        let parts = [message, error].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        let gap = if parts.is_empty() { "" } else { " " };
        match rest.trim_start() {
            "" => writer.write_str(&parts),
            rest => write!(writer, "{parts}{gap}{rest}"),
        }
    }
}

#[derive(Default)]
struct Line {
    message: String,
    error: String,
    rest: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" | ERROR => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        let text = on_one_line(&text);
        match field.name() {
            "message" => self.message = text.into(),
            ERROR => self.error = text.into(),
            name if is_left_out(name) => {}
            // A text cannot fail to be written to.
            name => _ = write!(self.rest, " {name}={text}"),
        }
    }
}
