//! From the rename of a product's folder onto the volume to the moment when a search finds it, so many a second.

use crate::client::{Client, get, post};
use crate::ground::Ground;
use crate::measure::until;
use crate::metadata::{Block, Random, yaml};
use crate::report::{Report, Target, Times, milliseconds};
use crate::searches::page;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tests::program::Server;

/// How many arrive, and how long after one another: twenty a second.
const ARRIVALS: usize = 400;
const BETWEEN: Duration = Duration::from_millis(50);
/// How many are waited for at once.
const WAITING: usize = 6;
/// How long anybody waits for one.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a key arrives that was not there.
const NEW_KEYS: usize = 10;

/// The arrivals, and the names of those that there were.
pub(crate) struct Arrivals<'a> {
    ground: &'a Ground,
    server: &'a Server,
    arrived: Vec<String>,
    random: Random,
}

impl<'a> Arrivals<'a> {
    pub(crate) fn on(ground: &'a Ground, server: &'a Server) -> Arrivals<'a> {
        fs::create_dir_all(ground.staging()).expect("a folder");
        Arrivals { ground, server, arrived: Vec::new(), random: Random(7) }
    }

    /// Twenty a second, and nothing else.
    pub(crate) fn idle(&mut self, prefix: &str, report: &mut Report) {
        let times = self.stream();
        self.rows(&format!("{prefix}arrival to searchable, 20 a second"), &times, [100.0, 500.0], report);
    }

    /// Twenty a second while everything is walked.
    pub(crate) fn under_walk(&mut self, report: &mut Report) {
        let ended = AtomicBool::new(false);
        let server = self.server;
        let (times, walks) = thread::scope(|scope| {
            let walking = scope.spawn(|| walk_again(server, &ended));
            until(|| (server.status()["indexing"]["in_progress"] == true).then_some(()));
            let times = self.stream();
            ended.store(true, Ordering::Relaxed);
            (times, walking.join().expect("no panic"))
        });
        let what = format!("arrival to searchable, 20 a second, under a full walk ({walks} asked for)");
        let asked = self.asking();
        let beside = format!("one search, {}", milliseconds(asked));
        report.times(&what, &times, Target::Within(99, 1000.0), &beside, Some(asked));
        until(|| (server.status()["indexing"]["in_progress"] == false).then_some(()));
    }

    fn rows(&self, what: &str, times: &Times, [median, p99]: [f64; 2], report: &mut Report) {
        let asked = self.asking();
        let beside = format!("one search, {}", milliseconds(asked));
        report.times(&format!("{what}, median"), times, Target::Within(50, median), &beside, Some(asked));
        report.times(&format!("{what}, p99"), times, Target::Within(99, p99), &beside, Some(asked));
    }

    /// How long a search takes for an execution block that is not there.
    fn asking(&self) -> Duration {
        let mut client = Client::of(self.server);
        crate::measure::latency(|n| client.good(&search(&format!("eb-none-{n}")))).median()
    }

    /// Lets products arrive, and answers how long each took.
    fn stream(&mut self) -> Times {
        let staged: Vec<(String, PathBuf)> = (0..ARRIVALS).map(|_| self.stage("")).collect();
        let (times, server) = (Mutex::new(Vec::new()), self.server);
        let (arrived, waiting) = mpsc::channel::<(String, Instant)>();
        let waiting = Mutex::new(waiting);
        thread::scope(|scope| {
            for _ in 0..WAITING {
                scope.spawn(|| {
                    let mut client = Client::of(server);
                    // The lock is held while one waits for an arrival, and given up before the arrival is looked for.
                    while let Ok((block, begun)) = { waiting.lock().expect("no panic").recv() } {
                        let time = found(&mut client, &block, begun);
                        times.lock().expect("no panic").push(time);
                    }
                });
            }
            let begun = Instant::now();
            for ((block, from), n) in staged.iter().zip(0..) {
                thread::sleep((BETWEEN * n).saturating_sub(begun.elapsed()));
                let begun = Instant::now();
                fs::rename(from, self.ground.path().join(block)).expect("renamed");
                arrived.send((block.clone(), begun)).expect("somebody waits");
            }
            drop(arrived);
        });
        Times::of(times.into_inner().expect("no panic"))
    }

    /// Makes a product's folder beside the volume.
    fn stage(&mut self, more: &str) -> (String, PathBuf) {
        let block = format!("eb-arrived-20260101-{:05}", self.arrived.len());
        let folder = self.ground.staging().join(&block);
        let text = yaml(self.arrived.len(), &Block::arriving(&block, &mut self.random), &mut self.random);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(tests::volume::METADATA), text + more).expect("a file");
        self.arrived.push(block.clone());
        (block, folder)
    }

    /// How long the columns take to have a key that nobody had before.
    pub(crate) fn new_keys(&mut self, report: &mut Report) {
        let mut client = Client::of(self.server);
        let config = get("/muidatagridconfig");
        let times = crate::measure::latency(|_| client.good(&config));
        let beside = crate::measure::latency(|_| client.good(&get("/livez"))).median();
        let idle = format!("`/livez`, {}", milliseconds(beside));
        report.times("columns (`/muidatagridconfig`)", &times, Target::Within(95, 5.0), &idle, Some(beside));
        let mut news = Vec::new();
        for n in 0..NEW_KEYS {
            let (block, from) = self.stage(&format!("new_key_{n}: {n}\n"));
            let begun = Instant::now();
            fs::rename(from, self.ground.path().join(block)).expect("renamed");
            let wanted = format!("\"new_key_{n}\"");
            while !contains(client.ask(&config).1, wanted.as_bytes()) {
                assert!(begun.elapsed() < PATIENCE, "the columns never have {wanted}");
                thread::sleep(Duration::from_millis(5));
            }
            news.push(begun.elapsed());
        }
        let what = format!("columns right after a new key's arrival, worst of {NEW_KEYS}");
        let beside = format!("the columns, {}", milliseconds(times.median()));
        report.times(&what, &Times::of(news), Target::Within(100, 1000.0), &beside, Some(times.median()));
    }
}

impl Drop for Arrivals<'_> {
    fn drop(&mut self) {
        self.ground.forget(&self.arrived);
    }
}

/// Asks for a walk of everything whenever none runs; answers how often.
fn walk_again(server: &Server, ended: &AtomicBool) -> usize {
    let mut walks = 0;
    while !ended.load(Ordering::Relaxed) {
        walks += usize::from(server.get("/reindexdataproducts").status == 202);
        thread::sleep(Duration::from_millis(200));
    }
    walks
}

fn search(block: &str) -> Vec<u8> {
    let items = json!([{"field": "execution_block", "operator": "equals", "value": block}]);
    post("/filterdataproducts", &page(&items, "and", None), None)
}

/// When a search found it, after its arrival.
fn found(client: &mut Client, block: &str, begun: Instant) -> Duration {
    let request = search(block);
    loop {
        let (status, body) = client.ask(&request);
        if status == 200 && !contains(body, b"\"total\":0") {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "{block} was not found: {status}");
        // Both cores are needed for what is waited for.
        thread::sleep(Duration::from_millis(3));
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
