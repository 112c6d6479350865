//! The standalone program, beside what a shell does with the same files.

use crate::report::{FIND, Report, latency, milliseconds, shell, shell_output, walked};
use crate::requests;
use serde_json::Value;
use tests::program::{Server, serve};
use tests::volume::Volume;

/// Measures it. Answers how long its first index took, for others to be compared with.
pub(crate) fn measure(volume: &Volume, scale: usize, report: &mut Report) -> f64 {
    let (server, seconds) = first_index(volume, scale, report);
    unchanged_walk(volume, &server, report);
    searches(&server, report);
    requests::arrivals(volume, &server, "in the same process", report);
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
