//! Logging: to standard error, so that standard output is the program's own. What is said at once is one line, and nothing
//! that a terminal obeys, whatever the names and texts in it that others chose; or, for machines, one JSON object a line.
//!
//! Why something is as it is stands in the field `error`, what it is about in others (`folder`, `uid`, `path`).

mod json;
mod seldom;
mod text;

pub use seldom::{Causes, Seldom};

use crate::config::{LogFormat, Logging};
use crate::terminal::on_its_lines;
use std::io::Write;
use tracing::info;
use tracing_subscriber::fmt::MakeWriter;

/// The field that says why.
const ERROR: &str = "error";

/// Fields that are left out: where a message of the `log` crate comes from, and statements of the database, which are long
/// and of which the `summary` is told.
fn is_left_out(field: &str) -> bool {
    field.starts_with("log.") || field == "db.statement"
}

/// Starts logging through `writer`.
pub fn start<W>(logging: &Logging, writer: W, ansi: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt().with_env_filter(logging.filter()).with_writer(writer);
    match logging.format() {
        LogFormat::Text => log.fmt_fields(text::Fields).with_ansi(ansi).with_target(false).init(),
        LogFormat::Json => log.event_format(json::Lines).init(),
    }
}

/// Says what begins here: a program, its version, and [what is set](crate::config::Variables::told).
pub fn begin(program: &'static str, version: &str, settings: &str) {
    info!(program, version, settings, "starting");
}

/// Writes a line that belongs to the program's output and not to its log; a closed output is no reason to stop.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", on_its_lines(line)).and_then(|()| out.flush());
}
