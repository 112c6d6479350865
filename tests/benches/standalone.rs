//! The benchmark of the standalone program: `make bench`, or `make bench SCALE=100000`.
//!
//! It makes a volume with a seeded generator, runs the real program on it, and writes each figure beside what it is
//! compared with in the same run, for machines differ and ratios do not as much.

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::program::{Server, serve};
use tests::volume::Volume;

const ARRIVALS: usize = 200;
const SEARCHES: usize = 60;
const SCRIPTS: [&str; 5] =
    ["vis-receive", "pointing-offset", "spectral-line-imaging", "delay-cal", "continuum-imaging"];

/// The table as it grows.
#[derive(Default)]
struct Report(String);

impl Report {
    fn row(&mut self, what: &str, measured: &str, beside: &str, ratio: &str) {
        println!("{what}: {measured} (beside {beside}: {ratio})");
        let _ = writeln!(self.0, "| {what} | {measured} | {beside} | {ratio} |");
    }
}

fn main() {
    let scale = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20_000);
    let volume = Volume::new();
    println!("making {scale} products in {}", volume.path().display());
    make(&volume, scale);
    let mut report = Report::default();
    let server = first_index(&volume, scale, &mut report);
    unchanged_walk(&volume, &server, &mut report);
    searches(&server, &mut report);
    arrivals(&volume, &server, &mut report);
    downloads(&volume, &server, &mut report);
    let text = format!(
        "# Benchmarks\n\nMade by `make bench SCALE={scale}`: {scale} products, the release build, a warm cache, {} cores.\n\
         Seconds depend on the machine; the ratios are what counts.\n\n\
         | what | measured | beside it, in the same run | ratio |\n|---|---|---|---|\n{}",
        std::thread::available_parallelism().map_or(0, usize::from),
        report.0
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    fs::write(&path, text).expect("docs/benchmarks.md");
}

/// Random numbers, the same in every run (an LCG with Knuth's constants).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn metadata(n: usize, block: &str, random: &mut Random) -> String {
    let script = SCRIPTS[n % SCRIPTS.len()];
    let observer = random.below(50);
    let (ra, dec) = (random.below(360_000) as f64 / 1000.0, random.below(90_000) as f64 / -1000.0);
    let begin = 57_000.0 + random.below(3_000_000) as f64 / 1000.0;
    let mut files = String::new();
    for scan in 0..4 {
        let crc = random.below(1 << 31) << 1;
        let _ = writeln!(
            files,
            "- crc: {crc:08x}\n  description: MS for scan {scan}\n  path: vis.scan-{scan}.ms\n  size: {}\n  status: done",
            random.below(1 << 30)
        );
    }
    format!(
        "config:\n  cmdline: null\n  commit: {:010x}{:010x}\n  image: artefact.skao.int/ska-sdp-script-{script}\n  \
         processing_block: pb-{n}\n  processing_script: {script}\n  version: 1.{}.0\n\
         context:\n  observer: observer_{observer}\n  intent: Experimental run {n} of {}\n  notes: as planned\n\
         execution_block: {block}\nfiles:\n{files}interface: http://schema.skao.int/ska-data-product-meta/0.1\n\
         obscore:\n  access_estsize: {}\n  access_format: application/unknown\n  access_url: null\n  calib_level: {}\n  \
         dataproduct_type: MS\n  facility_name: SKA-Observatory\n  instrument_name: SKA-LOW\n  o_ucd: null\n  \
         obs_collection: {script}\n  obs_id: ''\n  pol_states: /XX/XY/YX/YY/\n  pol_xel: 4\n  s_dec: {dec}\n  s_ra: {ra}\n  \
         t_exptime: {}\n  t_max: {}\n  t_min: {begin}\n  t_resolution: null\n  target_name: field_{}\n",
        random.below(1 << 31),
        random.below(1 << 31),
        random.below(9),
        random.below(100),
        random.below(100_000),
        random.below(3),
        random.below(3600),
        begin + 0.1,
        random.below(500),
    )
}

fn make(volume: &Volume, scale: usize) {
    let mut random = Random(42);
    for n in 0..scale {
        let block = format!("eb-bench-20{:02}{:02}{:02}-{n:07}", 20 + n % 7, 1 + n % 12, 1 + n % 28);
        let folder = format!("{block}/ska-sdp/pb-{n}");
        volume.write(&format!("{folder}/ska-data-product.yaml"), metadata(n, &block, &mut random));
        volume.write(&format!("{folder}/vis.scan-0.ms/table.f0"), "0");
        volume.write(&format!("{folder}/vis.scan-0.ms/ANTENNA/table.dat"), "0");
    }
}

/// The seconds that a shell command takes: the best of three.
fn shell(folder: &Path, command: &str) -> f64 {
    let once = || {
        let begun = Instant::now();
        let status = Command::new("sh").args(["-c", command]).current_dir(folder).stdout(Stdio::null()).status();
        assert!(status.expect("a shell").success(), "{command}");
        begun.elapsed().as_secs_f64()
    };
    (0..3).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// The end of a walk that ended after `before`, and how many seconds it took.
fn walked(server: &Server, before: &Value) -> f64 {
    let done = tests::wait_for("the walk", || {
        let volume = server.status()["pv_interface_status"].clone();
        (volume["index_time_modified"].is_string() && volume["index_time_modified"] != *before).then_some(volume)
    });
    let text = done["last_index_duration"].as_str().expect("a duration");
    text.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a number"))
}

const FIND: &str = "find . -name '*.ms' -prune -o -name ska-data-product.yaml -print";

fn first_index(volume: &Volume, scale: usize, report: &mut Report) -> Server {
    let cat = shell(volume.path(), &format!("{FIND} | xargs cat >/dev/null"));
    let find = shell(volume.path(), FIND);
    let server = Server::with(serve(volume.path()), false);
    let seconds = walked(&server, &Value::Null);
    let rate = format!("{seconds:.2} s, {:.0} products/s", scale as f64 / seconds);
    report.row("first index", &rate, &format!("`find`, {find:.2} s"), &format!("{:.1}×", seconds / find));
    report.row("first index", &rate, &format!("`find \\| xargs cat`, {cat:.2} s"), &format!("{:.1}×", seconds / cat));
    let peak = server.memory("VmHWM");
    let each = format!("{:.1} KiB a product", peak as f64 / scale as f64 / 1024.0);
    let files = shell_output(volume.path(), &format!("{FIND} | xargs cat | wc -c")) / (1 << 20);
    report.row("peak memory", &format!("{} MiB", peak >> 20), &format!("the metadata files, {files} MiB"), &each);
    server
}

fn shell_output(folder: &Path, command: &str) -> u64 {
    let output = Command::new("sh").args(["-c", command]).current_dir(folder).output().expect("a shell");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

fn unchanged_walk(volume: &Volume, server: &Server, report: &mut Report) {
    let find = shell(volume.path(), FIND);
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let before = server.status()["pv_interface_status"]["index_time_modified"].clone();
        assert_eq!(server.get("/reindexdataproducts").status, 202);
        best = best.min(walked(server, &before));
    }
    report.row(
        "walk of the unchanged volume",
        &format!("{best:.3} s"),
        &format!("`find`, {find:.3} s"),
        &format!("{:.1}×", best / find),
    );
}

fn sorted(mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort();
    times
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

fn latency(count: usize, mut once: impl FnMut()) -> Vec<Duration> {
    once();
    let time = |_| {
        let begun = Instant::now();
        once();
        begun.elapsed()
    };
    sorted((0..count).map(time).collect())
}

fn searches(server: &Server, report: &mut Report) {
    let status = latency(SEARCHES, || drop(server.status()))[SEARCHES / 2];
    let item = |field: &str, operator: &str, value: &str| json!({"pageSize": 25, "filterModel": {"items": [{"field": field, "operator": operator, "value": value}]}});
    for (what, body) in [
        ("grid page, no filter", json!({"pageSize": 25})),
        ("grid page, execution block contains, few match", item("execution_block", "contains", "-0000042")),
        ("grid page, a fifth matches", item("config.processing_script", "equals", "vis-receive")),
        ("grid page, numeric range", item("obscore.s_ra", ">", "180")),
        (
            "grid page, sorted by a key",
            json!({"pageSize": 25, "sortModel": [{"field": "obscore.s_ra", "sort": "desc"}]}),
        ),
        (
            "grid page, any field contains",
            json!({"pageSize": 25, "filterModel": {"items": [], "quickFilterValues": ["observer_7"]}}),
        ),
    ] {
        let times = latency(SEARCHES, || drop(server.filter(&body)));
        let median = times[SEARCHES / 2];
        let measured = format!("median {}, p95 {}", milliseconds(median), milliseconds(times[SEARCHES * 95 / 100]));
        let ratio = median.as_secs_f64() / status.as_secs_f64();
        report.row(what, &measured, &format!("`/status`, {}", milliseconds(status)), &format!("{ratio:.1}×"));
    }
    let times = latency(SEARCHES, || assert!(!server.search(&["crc:00", "processing_script:vis"]).is_empty()));
    let measured =
        format!("median {}, p95 {}", milliseconds(times[SEARCHES / 2]), milliseconds(times[SEARCHES * 95 / 100]));
    report.row("search by two pairs", &measured, &format!("`/status`, {}", milliseconds(status)), "");
}

fn arrivals(volume: &Volume, server: &Server, report: &mut Report) {
    let mut random = Random(7);
    let time = |n: usize| {
        let block = format!("eb-arrival-20260101-{n:05}");
        volume.write("staging/metadata.tmp", metadata(n, &block, &mut random));
        let folder = volume.at(&format!("eb-bench-2020{:02}{:02}-{:07}", 1, 1, 0));
        let target = folder.join(format!("arrival-{n}"));
        fs::create_dir(&target).expect("a folder");
        let begun = Instant::now();
        fs::rename(volume.at("staging/metadata.tmp"), target.join("ska-data-product.yaml")).expect("renamed");
        let body = json!({"execution_block": block});
        while server.post("/dataproductmetadata", &body).status != 200 {}
        begun.elapsed()
    };
    let times = sorted((0..ARRIVALS).map(time).collect());
    let asking = latency(SEARCHES, || drop(server.post("/dataproductmetadata", &json!({"execution_block": "none"}))));
    report.row(
        &format!("rename to searchable, {ARRIVALS} times"),
        &format!("median {}, worst {}", milliseconds(times[ARRIVALS / 2]), milliseconds(times[ARRIVALS - 1])),
        &format!("one request, {}", milliseconds(asking[SEARCHES / 2])),
        &format!("{:.1}×", times[ARRIVALS / 2].as_secs_f64() / asking[SEARCHES / 2].as_secs_f64()),
    );
}

fn downloads(volume: &Volume, server: &Server, report: &mut Report) {
    volume.product("large", "eb-large-20260101-1", "");
    let mut random = Random(3);
    let block: Vec<u8> = (0..1 << 20).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect();
    let mut file = fs::File::create(volume.at("large/data")).expect("a file");
    (0..2048).for_each(|_| file.write_all(&block).expect("written"));
    volume.product("small", "eb-small-20260101-1", "");
    (0..5000).for_each(|n| volume.write(&format!("small/{n}.dat"), &block[..4096]));
    for (what, folder) in [("one file of 2 GiB", "large"), ("5,000 files of 4 KiB", "small")] {
        let body = json!({"execution_block": format!("eb-{folder}-20260101-1")});
        tests::wait_for("the product", || (server.post("/dataproductmetadata", &body).status == 200).then_some(()));
        let tar = shell(volume.path(), &format!("tar -cf - {folder} | cat >/dev/null"));
        let mut best = f64::INFINITY;
        let mut bytes = 0;
        for _ in 0..3 {
            let begun = Instant::now();
            bytes = read_download(server, &body);
            best = best.min(begun.elapsed().as_secs_f64());
        }
        let rate = |seconds: f64| format!("{:.0} MiB/s", bytes as f64 / seconds / f64::from(1 << 20));
        report.row(
            &format!("download, {what}"),
            &format!("{best:.2} s, {}", rate(best)),
            &format!("`tar -cf - DIR \\| cat`, {tar:.2} s, {}", rate(tar)),
            &format!("{:.1}× the time", best / tar),
        );
    }
}

/// Reads a download to its end and throws it away, as `cat >/dev/null` does.
fn read_download(server: &Server, body: &Value) -> u64 {
    let mut stream = server.connect();
    let body = body.to_string();
    let head = format!(
        "POST /download HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("a request");
    let mut part = vec![0; 1 << 20];
    let mut bytes = 0;
    while let Ok(read @ 1..) = stream.read(&mut part) {
        bytes += read as u64;
    }
    bytes
}
