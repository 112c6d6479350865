//! The table of figures, and what takes them.

use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::program::Server;

/// How often a request is timed at the most and at the least, and how long at the most.
const REQUESTS: usize = 60;
const FEWEST: usize = 5;
const ENOUGH: Duration = Duration::from_secs(5);

/// The table as it grows.
#[derive(Default)]
pub(crate) struct Report(pub(crate) String);

impl Report {
    pub(crate) fn row(&mut self, what: &str, measured: &str, beside: &str, ratio: &str) {
        println!("{what}: {measured} (beside {beside}: {ratio})");
        let _ = writeln!(self.0, "| {what} | {measured} | {beside} | {ratio} |");
    }
}

/// Writes a part's table into the page, in place of the one that it had.
pub(crate) fn write(page: &Path, part: &str, title: &str, scale: usize, report: &Report) {
    let before = std::fs::read_to_string(page).unwrap_or_default();
    let head = "# Benchmarks\n\nSeconds depend on the machine; the ratios are what counts. All with the release build and a warm cache.\n\n";
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let own = format!(
        "## {title}\n\nMade by `make bench SCALE={scale} PART={part}`: {scale} products, {cores} cores.\n\n\
         | what | measured | beside it, in the same run | ratio |\n|---|---|---|---|\n{}\n",
        report.0
    );
    let mut sections: Vec<String> =
        before.split("\n## ").skip(1).map(|text| format!("## {}\n", text.trim_end())).collect();
    match sections.iter_mut().find(|section| section.starts_with(&format!("## {title}\n"))) {
        Some(section) => *section = own,
        None => sections.push(own),
    }
    let text: Vec<&str> = sections.iter().map(|section| section.trim_end()).collect();
    std::fs::write(page, format!("{head}{}\n", text.join("\n\n"))).expect("the page of benchmarks");
}

/// The seconds that a shell command takes: the best of three.
pub(crate) fn shell(folder: &Path, command: &str) -> f64 {
    let once = || {
        let begun = Instant::now();
        let status = Command::new("sh").args(["-c", command]).current_dir(folder).stdout(Stdio::null()).status();
        assert!(status.expect("a shell").success(), "{command}");
        begun.elapsed().as_secs_f64()
    };
    (0..3).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// The end of a walk that ended after `before`, and how many seconds it took.
pub(crate) fn walked(server: &Server, before: &Value) -> f64 {
    let ended = || {
        let volume = server.status()["pv_interface_status"].clone();
        (volume["index_time_modified"].is_string() && volume["index_time_modified"] != *before).then_some(volume)
    };
    // A first walk may take longer than any test has patience.
    let done = loop {
        match ended() {
            Some(done) => break done,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let text = done["last_index_duration"].as_str().expect("a duration");
    text.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a number"))
}

pub(crate) const FIND: &str = "find . -name '*.ms' -prune -o -name ska-data-product.yaml -print";

pub(crate) fn shell_output(folder: &Path, command: &str) -> u64 {
    let output = Command::new("sh").args(["-c", command]).current_dir(folder).output().expect("a shell");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// The times of requests: many where they are fast, and as many as a few seconds hold where they are slow.
pub(crate) fn latency(mut once: impl FnMut()) -> Times {
    once();
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < REQUESTS && (times.len() < FEWEST || begun.elapsed() < ENOUGH) {
        let begun = Instant::now();
        once();
        times.push(begun.elapsed());
    }
    Times::of(times)
}

/// Times, sorted.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Times {
        times.sort();
        Times(times)
    }

    /// The time that so many percent of them do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }
}
