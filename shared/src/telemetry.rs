//! Logging: to standard error, so that standard output is the program's own. What is said at once is one line, and nothing
//! that a terminal obeys, whatever the names and texts in it that others chose.

use crate::config::Logging;
use crate::terminal::{on_its_lines, on_one_line};
use std::fmt::Debug;
use std::io::Write;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;

/// Starts logging through `writer`.
pub fn start<W>(logging: &Logging, writer: W, ansi: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let fields = debug_fn(|to, field, value: &dyn Debug| {
        let text = format!("{value:?}");
        let text = on_one_line(&text);
        match field.name() {
            "message" => write!(to, "{text}"),
            // Where a message of the `log` crate comes from, which is told otherwise.
            name if name.starts_with("log.") => Ok(()),
            name => write!(to, "{name}={text}"),
        }
    });
    tracing_subscriber::fmt()
        .fmt_fields(fields.delimited(" "))
        .with_env_filter(logging.filter())
        .with_writer(writer)
        .with_ansi(ansi)
        .with_target(false)
        .init();
}

/// Writes a line that belongs to the program's output and not to its log; a closed output is no reason to stop.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", on_its_lines(line)).and_then(|()| out.flush());
}
