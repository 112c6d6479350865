//! The table of figures, and what takes them.

use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::program::Server;

/// How often a request is timed.
pub(crate) const REQUESTS: usize = 60;

/// The table as it grows.
#[derive(Default)]
pub(crate) struct Report(pub(crate) String);

impl Report {
    pub(crate) fn row(&mut self, what: &str, measured: &str, beside: &str, ratio: &str) {
        println!("{what}: {measured} (beside {beside}: {ratio})");
        let _ = writeln!(self.0, "| {what} | {measured} | {beside} | {ratio} |");
    }
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
    let done = tests::wait_for("the walk", || {
        let volume = server.status()["pv_interface_status"].clone();
        (volume["index_time_modified"].is_string() && volume["index_time_modified"] != *before).then_some(volume)
    });
    let text = done["last_index_duration"].as_str().expect("a duration");
    text.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a number"))
}

pub(crate) const FIND: &str = "find . -name '*.ms' -prune -o -name ska-data-product.yaml -print";

pub(crate) fn shell_output(folder: &Path, command: &str) -> u64 {
    let output = Command::new("sh").args(["-c", command]).current_dir(folder).output().expect("a shell");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

pub(crate) fn sorted(mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort();
    times
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

pub(crate) fn latency(count: usize, mut once: impl FnMut()) -> Vec<Duration> {
    once();
    let time = |_| {
        let begun = Instant::now();
        once();
        begun.elapsed()
    };
    sorted((0..count).map(time).collect())
}
