//! Logging: to standard error, so that standard output is the program's own.

use crate::config::Logging;
use std::io::{self, Write};
use tracing_subscriber::fmt::MakeWriter;

/// Starts logging through `writer`.
pub fn start<W>(logging: &Logging, writer: W, ansi: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(logging.filter())
        .with_writer(OneLineEach(writer))
        .with_ansi(ansi)
        .with_target(false)
        .init();
}

/// Has each entry be one line, whatever is in the names that it tells of.
struct OneLineEach<W>(W);

/// What writes one entry, which comes whole.
struct OneLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLineEach<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.0.write_all(one_line(&String::from_utf8_lossy(entry)).as_bytes())?;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An entry with its control characters escaped, but for the end of its line and the colours, of which those that a name
/// holds are escaped before.
fn one_line(entry: &str) -> String {
    let (text, end) = entry.strip_suffix('\n').map_or((entry, ""), |text| (text, "\n"));
    let mut line = String::with_capacity(entry.len());
    for character in text.chars() {
        match character {
            '\u{1b}' | '\t' => line.push(character),
            '\u{2028}' | '\u{2029}' => line.extend(character.escape_default()),
            control if control.is_control() => line.extend(control.escape_default()),
            other => line.push(other),
        }
    }
    line + end
}

/// Writes a line that belongs to the program's output and not to its log; a closed output is no reason to stop.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        for (entry, line) in [
            ("WARN eb-1: ü\n", "WARN eb-1: ü\n"),
            ("a\nERROR b\r\n\n", "a\\nERROR b\\r\\n\n"),
            ("\u{1b}[33mWARN\u{1b}[0m a\u{7}\u{85}\u{2028}", "\u{1b}[33mWARN\u{1b}[0m a\\u{7}\\u{85}\\u{2028}"),
        ] {
            assert_eq!(one_line(entry), line, "{entry:?}");
        }
    }
}
