//! What takes the figures: time, processes, and when a machine is quiet.

use crate::report::Times;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tests::program::Server;

/// How often a request is timed at the most and at the least, and how long at the most.
const REQUESTS: usize = 60;
const FEWEST: usize = 5;
const ENOUGH: Duration = Duration::from_secs(3);
/// Which part of its processors other guests of this machine's host may have while requests are timed. Where it is more, they
/// are timed once more when that is over: so often in all, and for so long it is waited for.
const STOLEN: f64 = 0.02;
const TRIES: usize = 3;
const UNTIL_CALM: Duration = Duration::from_secs(60);
/// How long nothing may have been done before a machine counts as quiet, and how long that is waited for.
const STILL: Duration = Duration::from_secs(3);
const UNTIL_STILL: Duration = Duration::from_secs(180);

/// What the walk of the indexer is compared with: the same folders, and none that it prunes.
pub(crate) const FIND: &str = "find . -name '*.ms' -prune -o -name ska-data-product.yaml -print";

/// The times of requests: many where they are fast, and as many as a few seconds hold where they are slow. Each is told
/// which one it is, so that it may ask for something else than the one before. Of several tries the calmest counts.
pub(crate) fn latency(mut once: impl FnMut(usize)) -> Times {
    (0..3).for_each(&mut once);
    let mut number = 3;
    let mut tries: Vec<(f64, Vec<Duration>)> = Vec::new();
    while tries.len() < TRIES && tries.last().is_none_or(|(stolen, _)| *stolen > STOLEN) {
        if !tries.is_empty() {
            calm();
        }
        let (begun, theft, mut times) = (Instant::now(), Theft::begin(), Vec::new());
        while times.len() < REQUESTS && (times.len() < FEWEST || begun.elapsed() < ENOUGH) {
            let begun = Instant::now();
            once(number);
            times.push(begun.elapsed());
            number += 1;
        }
        tries.push((theft.part(), times));
    }
    let calmest = tries.into_iter().min_by(|(a, _), (b, _)| a.total_cmp(b));
    Times::of(calmest.expect("a try").1)
}

/// Waits until other guests of the host leave this machine its processors, or until that takes too long.
fn calm() {
    let begun = Instant::now();
    while begun.elapsed() < UNTIL_CALM {
        let theft = Theft::begin();
        thread::sleep(Duration::from_secs(1));
        if theft.part() <= STOLEN {
            return;
        }
    }
}

/// What other guests of the host take of this machine's processors (*steal* in proc(5)).
struct Theft(Instant, f64);

impl Theft {
    fn begin() -> Theft {
        Theft(Instant::now(), Theft::seconds())
    }

    /// Which part of them it was since it began.
    fn part(&self) -> f64 {
        let processors = thread::available_parallelism().map_or(1, usize::from) as f64;
        (Theft::seconds() - self.1) / self.0.elapsed().as_secs_f64() / processors
    }

    /// In all, since the machine was started.
    fn seconds() -> f64 {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks = stat.split_whitespace().nth(8).and_then(|ticks| ticks.parse::<f64>().ok());
        ticks.unwrap_or_default() / 100.0
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

/// Waits for as long as it takes: a million products take longer than any test has patience.
pub(crate) fn until<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = condition() {
            return found;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The seconds that a walk took which ended after `before`.
pub(crate) fn walked(server: &Server, before: &Value) -> f64 {
    let ended = || {
        let volume = server.status()["pv_interface_status"].clone();
        (volume["index_time_modified"].is_string() && volume["index_time_modified"] != *before).then_some(volume)
    };
    let done = until(ended);
    let text = done["last_index_duration"].as_str().expect("a duration");
    text.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a number"))
}

/// Waits until these processes use less than a twentieth of a core; answers how long that took, without the while in
/// which it was found out. One that does not end is said and not waited for.
pub(crate) fn quiet(processes: impl Fn() -> Vec<u32>) -> Duration {
    let begun = Instant::now();
    let used = || processes().into_iter().map(processor_seconds).sum::<f64>();
    while begun.elapsed() < UNTIL_STILL {
        let before = used();
        thread::sleep(STILL);
        if (used() - before).abs() < STILL.as_secs_f64() / 20.0 {
            return begun.elapsed().saturating_sub(STILL);
        }
    }
    println!("the machine did not become quiet");
    begun.elapsed()
}

/// The processor time that a process used, in seconds.
pub(crate) fn processor_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything, the 12th and 13th field are ticks of a hundredth of a second (proc(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The processes of all PostgreSQL servers on this machine.
pub(crate) fn database_processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok()?.parse().ok());
    let is_server =
        |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres");
    pids.filter(is_server).collect()
}

/// The memory that processes take together, what they share counted once.
pub(crate) fn memory_of(processes: &[u32]) -> u64 {
    let own = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?.to_owned();
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    processes.iter().filter_map(own).sum::<u64>() * 1024
}

/// The rates of a first index's first and last tenth, as they were seen while it ran.
pub(crate) struct Pace(Vec<(f64, u64)>);

impl Pace {
    /// Watches an indexer's counts until its first walk has ended; answers the walk's seconds as well.
    pub(crate) fn of(server: &Server) -> (f64, Pace) {
        let begun = Instant::now();
        let mut seen: Vec<(f64, u64)> = Vec::new();
        loop {
            let status = server.status();
            let progress = &status["indexing"]["progress"];
            let done = progress["files_processed"].as_u64().unwrap_or_default();
            if done > 0 && seen.last().is_none_or(|(_, before)| *before < done) {
                seen.push((begun.elapsed().as_secs_f64(), done));
            }
            if status["pv_interface_status"]["index_time_modified"].is_string() {
                return (walked(server, &Value::Null), Pace(seen));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How long a product took in the first tenth, and how long in the last, in seconds. What was counted when it was
    /// looked at first is left out: how long that took is not known.
    pub(crate) fn tenths(&self) -> Option<(f64, f64)> {
        let ((_, first), (_, last)) = (self.0.first()?, self.0.last()?);
        let tenth = (last - first) / 10;
        let at = |count: u64| self.0.iter().find(|(_, done)| *done >= count);
        let each = |from: u64, to: u64| {
            let (from, to) = (at(from)?, at(to)?);
            (to.1 > from.1).then(|| (to.0 - from.0) / (to.1 - from.1) as f64)
        };
        Some((each(*first, first + tenth)?, each(last - tenth, *last)?))
    }
}
