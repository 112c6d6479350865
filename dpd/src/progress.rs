//! How indexing goes, for who looks on: a bar on a terminal, a line in the log now and then otherwise.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shared::access::Viewer;
use shared::status::{Indexing, Progress};
use shared::store::{Store, Summary};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use tracing::info;
use tracing_subscriber::fmt::MakeWriter;

/// How often the bar is drawn, and how often the log is told.
const DRAW: Duration = Duration::from_millis(100);
const TELL: Duration = Duration::from_secs(5);

/// The bar, or none where nobody would see it.
pub(crate) fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} indexing {bar:30} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
}

/// Follows the first walk to its end.
pub(crate) async fn follow(store: &dyn Store, bar: &ProgressBar) -> Option<Summary> {
    let begun = Instant::now();
    let mut told = begun;
    let mut tick = tokio::time::interval(DRAW);
    loop {
        tick.tick().await;
        let summary = store.summary(&Viewer::everybody(), 0).await.ok()?;
        let line = line(&summary, begun.elapsed());
        bar.set_length(summary.indexing.progress.total_files.max(1));
        bar.set_position(done(&summary.indexing.progress));
        bar.set_message(line.clone());
        if has_ended(&summary.indexing) {
            bar.finish_and_clear();
            return Some(summary);
        }
        if bar.is_hidden() && told.elapsed() >= TELL {
            told = Instant::now();
            info!("indexing: {line}");
        }
    }
}

fn has_ended(indexing: &Indexing) -> bool {
    !indexing.in_progress && (indexing.ended.is_some() || indexing.volume_error.is_some())
}

/// Files that are dealt with, read or not.
fn done(progress: &Progress) -> u64 {
    progress.files_processed + progress.files_skipped
}

fn line(summary: &Summary, elapsed: Duration) -> String {
    let progress = &summary.indexing.progress;
    let rate = done(progress) as f64 / elapsed.as_secs_f64().max(0.001);
    format!("{} found, {} read, {} failed, {rate:.0}/s", progress.total_files, done(progress), summary.failing)
}

/// Writes log lines above the bar.
#[derive(Clone)]
pub(crate) struct AboveBar(pub(crate) ProgressBar);

impl Write for AboveBar {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(line)).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AboveBar {
    type Writer = AboveBar;

    fn make_writer(&'a self) -> AboveBar {
        self.clone()
    }
}
