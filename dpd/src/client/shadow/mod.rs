//! `dpd shadow`: the same questions to two services, the one before this one and the one that is to follow it, and where
//! their answers differ. Nothing is written to either.
//!
//! [`sides`] asks, [`products`], [`metadata`], [`searches`] and [`annotations`] compare, and [`report`] counts: what a
//! [`faults::Fault`] explains apart from what nothing does.

mod annotations;
mod archives;
mod faults;
mod metadata;
mod products;
mod report;
mod searches;
mod sides;

use super::{Client, Failure, Result, print, print_json};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use report::Report;
use sides::{Side, Sides};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is told how far it is where nobody sees a bar.
const TELL: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The URL of the service before this one
    #[arg(long, value_name = "URL")]
    old: String,
    /// The URL of the service that is to follow it
    #[arg(long, value_name = "URL")]
    new: String,
    /// The token that says to both who you are; better in $DPD_TOKEN [default: $DPD_TOKEN]
    #[arg(long, value_name = "TOKEN", hide_default_value = true)]
    token: Option<String>,
    /// Where the storage path of both is mounted here, to look what the old service has not noticed
    #[arg(long, value_name = "PATH")]
    volume: Option<PathBuf>,
    /// Compare the metadata, annotations and archives of so many data products at the most, spread over all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    products: usize,
    /// Filter by so many columns at the most
    #[arg(long, value_name = "N", default_value_t = 100)]
    columns: usize,
    /// Filter by so many values of each column
    #[arg(long, value_name = "N", default_value_t = 2)]
    values: usize,
    /// How long an answer may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// How long to wait between questions, in milliseconds, so that others are served meanwhile
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    pause: u64,
    /// Answer in JSON: all that was counted, with examples
    #[arg(long)]
    json: bool,
}

/// What all comparisons go by.
struct Shadow {
    sides: Sides,
    report: Report,
    progress: Progress,
    volume: Option<PathBuf>,
    /// Most products, columns and values of each.
    products: usize,
    columns: usize,
    values: usize,
}

/// Compares; what nothing explains is exit code 1.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let side = |server: &str| -> Result<Side> {
        let patience = Duration::from_secs(arguments.timeout.max(1));
        let client = Client::of(Some(server.to_owned()), arguments.token.clone(), patience, patience)?;
        Ok(Side::new(client, Duration::from_millis(arguments.pause)))
    };
    let sides = Sides { old: side(&arguments.old)?, new: side(&arguments.new)? };
    if let Some(path) = arguments.volume.as_ref().filter(|path| !path.is_dir()) {
        return Err(Failure::Unusable(format!("--volume: {} is no folder that can be read", path.display())));
    }
    let mut shadow = Shadow {
        sides,
        report: Report::default(),
        progress: Progress::new(),
        volume: arguments.volume.clone(),
        products: arguments.products,
        columns: arguments.columns,
        values: arguments.values,
    };
    shadow.compare()?;
    shadow.progress.bar.finish_and_clear();
    let Shadow { report, sides, .. } = shadow;
    if arguments.json {
        print_json(&report.json(&arguments.old, &arguments.new, sides.asked()))?;
    } else {
        print(&report.text(sides.asked()))?;
    }
    match report.unexplained() {
        0 => Ok(()),
        1 => Err(Failure::Failed("one difference is unexplained".to_owned())),
        count => Err(Failure::Failed(format!("{count} differences are unexplained"))),
    }
}

impl Shadow {
    fn compare(&mut self) -> Result<()> {
        let read_at = self.sides.begin()?;
        let lists = products::compare(self, read_at)?;
        let sample = lists.sample(self.products);
        let stale = metadata::compare(self, &lists, &sample, read_at)?;
        annotations::compare(self, &sample)?;
        archives::compare(self, &lists, &sample)?;
        searches::compare(self, &lists, &stale)
    }
}

/// How far it is, for who looks on.
struct Progress {
    bar: ProgressBar,
    told: Instant,
}

impl Progress {
    fn new() -> Progress {
        let bar = if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        Progress { bar, told: Instant::now() }
    }

    /// Tells that so many of these are done.
    fn at(&mut self, what: &str, done: usize, of: usize) {
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(what.to_owned());
        if self.bar.is_hidden() && self.told.elapsed() >= TELL {
            self.told = Instant::now();
            super::tell(&format!("{what}: {done} of {of}"));
        }
    }
}
