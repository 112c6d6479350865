//! Logging: to standard error, so that standard output is the program's own.

use crate::config::Logging;
use std::io::Write;
use tracing_subscriber::fmt::MakeWriter;

/// Starts logging through `writer`.
pub fn start<W>(logging: &Logging, writer: W, ansi: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(logging.filter())
        .with_writer(writer)
        .with_ansi(ansi)
        .with_target(false)
        .init();
}

/// Writes a line that belongs to the program's output and not to its log; a closed output is no reason to stop.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
