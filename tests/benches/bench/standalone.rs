//! The standalone program, beside what a shell does with the same files.

use crate::generate::Random;
use crate::report::{FIND, Report, latency, milliseconds, shell, shell_output, walked};
use crate::requests;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::time::Instant;
use tests::program::{Server, serve};
use tests::volume::Volume;

/// Measures it. Answers how long its first index took, for others to be compared with.
pub(crate) fn measure(volume: &Volume, scale: usize, report: &mut Report) -> f64 {
    let (server, seconds) = first_index(volume, scale, report);
    unchanged_walk(volume, &server, report);
    searches(&server, report);
    requests::arrivals(volume, &server, "in the same process", report);
    downloads(volume, &server, report);
    seconds
}

fn first_index(volume: &Volume, scale: usize, report: &mut Report) -> (Server, f64) {
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
    (server, seconds)
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

fn searches(server: &Server, report: &mut Report) {
    let status = requests::pages(server, &requests::FILTERS, report);
    let times = latency(|| assert!(!server.search(&["crc:00", "processing_script:vis"]).is_empty()));
    let measured = format!("median {}, p95 {}", milliseconds(times.median()), milliseconds(times.percentile(95)));
    let ratio = times.median().as_secs_f64() / status.as_secs_f64();
    let beside = format!("`/status`, {}", milliseconds(status));
    report.row("search by two pairs", &measured, &beside, &format!("{ratio:.1}×"));
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
