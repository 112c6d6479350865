//! Downloads, beside what `tar` does with the same files.

use crate::measure::shell;
use crate::metadata::Random;
use crate::report::{Report, Times, milliseconds};
use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use tests::program::Server;
use tests::volume::Volume;

const MANY: usize = 100_000;
/// How often the first byte of an archive is asked for.
const TIMES: usize = 9;

/// Measures them on a server of their own.
pub(crate) fn measure(report: &mut Report) {
    let volume = Volume::new();
    let server = Server::start(volume.path());
    of_products(&volume, &server, report);
    first_bytes(&volume, &server, report);
}

fn of_products(volume: &Volume, server: &Server, report: &mut Report) {
    volume.product("large", "eb-large-20260101-1", "");
    let mut random = Random(3);
    let block: Vec<u8> = (0..1 << 20).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect();
    let mut file = fs::File::create(volume.at("large/data")).expect("a file");
    (0..2048).for_each(|_| file.write_all(&block).expect("written"));
    volume.product("small", "eb-small-20260101-1", "");
    (0..5000).for_each(|n| volume.write(&format!("small/{n}.dat"), &block[..4096]));
    for (what, folder) in [("one file of 2 GiB", "large"), ("5,000 files of 4 KiB", "small")] {
        let path = ready(server, folder);
        let tar = shell(volume.path(), &format!("tar -cf - {folder} | cat >/dev/null"));
        let mut best = f64::INFINITY;
        let mut bytes = 0;
        for _ in 0..3 {
            let begun = Instant::now();
            bytes = read(server, &path, None);
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

/// How long the first byte takes of a product of very many files.
fn first_bytes(volume: &Volume, server: &Server, report: &mut Report) {
    volume.product("many", "eb-many-20260101-1", "");
    (0..MANY).for_each(|n| volume.write(&format!("many/vis.ms/{}/table.f{n}", n % 100), "0"));
    let path = ready(server, "many");
    let total: u64 = server.head(&path).header("content-length").parse().expect("a number");
    let bytes = server.status()["downloads"]["plan_bytes"].as_u64().unwrap_or_default();
    let find = shell(volume.path(), "find many -printf '%s %T@\\n' >/dev/null");
    let half = shell(volume.path(), &format!("tar -cf - many | tail -c +{} | head -c 1 >/dev/null", total / 2));
    for (where_, from) in [("at its beginning", 0), ("in its middle", total / 2)] {
        let tar = if from == 0 { "`find -printf`" } else { "`tar -cf - DIR \\| tail -c +HALF \\| head -c 1`" };
        let beside = if from == 0 { find } else { half };
        for (plan, is_new) in [("planned anew", true), ("planned before", false)] {
            let times =
                Times::of((0..TIMES).map(|n| first_byte(volume, server, &path, from, is_new.then_some(n))).collect());
            report.row(
                &format!("first byte of an archive of {MANY} files, {where_}, {plan}"),
                &format!("median {}, worst {}", milliseconds(times.median()), milliseconds(times.percentile(100))),
                &format!("{tar}, {beside:.2} s"),
                &format!("{:.2}×", times.median().as_secs_f64() / beside),
            );
        }
    }
    report.row("the plans kept after that", &format!("{bytes} bytes"), &format!("{MANY} files, and 5,002"), "");
}

fn first_byte(volume: &Volume, server: &Server, path: &str, from: u64, change: Option<usize>) -> Duration {
    if let Some(change) = change {
        // Another file makes it another archive, which is not planned yet.
        volume.write(&format!("many/{from}-{change}"), "0");
    }
    let begun = Instant::now();
    read(server, path, Some(from));
    begun.elapsed()
}

/// The path of a product's download, once it is indexed.
fn ready(server: &Server, folder: &str) -> String {
    let path = format!("/download?execution_block=eb-{folder}-20260101-1");
    tests::wait_for("the product", || (server.head(&path).status == 200).then_some(()));
    path
}

/// Reads a download to its end and throws it away, as `cat >/dev/null` does; or only its first byte from a position on.
fn read(server: &Server, path: &str, from: Option<u64>) -> u64 {
    let mut stream = server.connect();
    let range = from.map_or_else(String::new, |from| format!("Range: bytes={from}-{from}\r\n"));
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{range}\r\n");
    stream.write_all(head.as_bytes()).expect("a request");
    let mut part = vec![0; 1 << 20];
    let mut bytes = 0;
    while let Ok(read @ 1..) = stream.read(&mut part) {
        bytes += read as u64;
    }
    bytes
}
