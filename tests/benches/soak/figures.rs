//! How long answers took, what was wrong, and how large the processes are.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How much larger a process may be at the end than it was once it had warmed up: in part, and in bytes, whichever is more.
const GROWTH: f64 = 0.15;
const GROWTH_BYTES: f64 = 24.0 * 1024.0 * 1024.0;
/// How many descriptors more than before the load there may be: connections to PostgreSQL that are kept, and the like.
const DESCRIPTORS: usize = 24;

/// What is counted while the load runs.
#[derive(Default)]
pub(crate) struct Figures {
    times: Mutex<BTreeMap<&'static str, Vec<Duration>>>,
    faults: Mutex<Vec<String>>,
    announced: AtomicUsize,
    bytes: AtomicUsize,
}

impl Figures {
    pub(crate) fn count(&self, name: &'static str, took: Duration, wrong: Option<String>) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().push(took);
        if let Some(wrong) = wrong {
            self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {wrong}"));
        }
    }

    pub(crate) fn announced(&self) {
        self.announced.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self, count: usize) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn say(&self) {
        for (name, times) in &mut *self.times.lock().unwrap_or_else(PoisonError::into_inner) {
            times.sort();
            let at = |part: usize| times[(times.len() * part / 1000).min(times.len() - 1)].as_secs_f64() * 1000.0;
            println!(
                "{name}: {} times, median {:.1} ms, p99 {:.1} ms, worst {:.0} ms",
                times.len(),
                at(500),
                at(990),
                at(1000)
            );
        }
        let (announced, bytes) = (self.announced.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        println!("{announced} announced 503s; {} MiB downloaded whole", bytes >> 20);
    }
}

/// The size of one process over time.
pub(crate) struct Gauge {
    name: &'static str,
    process: u32,
    descriptors: usize,
    memory: Vec<(Duration, f64)>,
}

impl Gauge {
    pub(crate) fn new(name: &'static str, process: u32) -> Gauge {
        Gauge { name, process, descriptors: descriptors(process), memory: Vec::new() }
    }

    pub(crate) fn read(&mut self, at: Duration) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).expect("its figures");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("the figure");
        let kilobytes: f64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
        self.memory.push((at, kilobytes * 1024.0));
    }

    /// What is wrong with how it came to be: warm after a third of the time, it is to stay as it is.
    pub(crate) fn verdict(&mut self) -> Vec<String> {
        let warm = &self.memory[self.memory.len() / 3..];
        let half = warm.len() / 2;
        let middle = |part: &[(Duration, f64)]| {
            let mut sizes: Vec<f64> = part.iter().map(|(_, bytes)| *bytes).collect();
            sizes.sort_by(f64::total_cmp);
            sizes[sizes.len() / 2]
        };
        let (before, after) = (middle(&warm[..half]), middle(&warm[half..]));
        let left = tests::wait_for("descriptors to be given back", || {
            let now = descriptors(self.process);
            (now <= self.descriptors + DESCRIPTORS).then_some(now)
        });
        let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
        println!(
            "{}: {:.1} MiB once warm, {:.1} MiB later, slope {:+.2} MiB a minute; {} descriptors before and {left} after",
            self.name,
            mib(before),
            mib(after),
            mib(slope(warm)) * 60.0,
            self.descriptors
        );
        let allowed = before + (before * GROWTH).max(GROWTH_BYTES);
        let grown = after > allowed;
        grown
            .then(|| format!("{} grew from {:.1} to {:.1} MiB", self.name, mib(before), mib(after)))
            .into_iter()
            .collect()
    }
}

/// Bytes a second, by least squares.
fn slope(memory: &[(Duration, f64)]) -> f64 {
    let count = memory.len() as f64;
    let mean = |of: fn(&(Duration, f64)) -> f64| memory.iter().map(of).sum::<f64>() / count;
    let (time, size) = (mean(|(at, _)| at.as_secs_f64()), mean(|(_, bytes)| *bytes));
    let both: f64 = memory.iter().map(|(at, bytes)| (at.as_secs_f64() - time) * (bytes - size)).sum();
    let square: f64 = memory.iter().map(|(at, _)| (at.as_secs_f64() - time).powi(2)).sum();
    if square > 0.0 { both / square } else { 0.0 }
}

fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).expect("its files").count()
}
