//! `dpd serve`, which has the index in memory.

use crate::arrivals::Arrivals;
use crate::ground::Ground;
use crate::measure::{FIND, Pace, quiet, shell, walked};
use crate::pages::Pages;
use crate::report::{Report, Target, times};
use tests::program::{Server, serve};

/// Measures it; `in_database` is how long the first index into PostgreSQL took, where that was measured.
pub(crate) fn measure(ground: &Ground, scale: usize, in_database: Option<f64>, report: &mut Report) {
    let cat = shell(&ground.path(), &format!("{FIND} | xargs cat >/dev/null"));
    let mut command = serve(&ground.path());
    command.env("DPD_RECONCILE_SECONDS", "3600").env("PVCNAME", crate::VOLUME_NAME);
    let server = Server::with(command, false);
    let (seconds, pace) = Pace::of(&server);
    let measured = format!("{seconds:.1} s, {:.0} products/s", scale as f64 / seconds);
    let (beside, other) = match in_database {
        Some(other) => (format!("into PostgreSQL, {other:.1} s"), other),
        None => (format!("`find \\| xargs cat`, {cat:.2} s"), cat),
    };
    report.figure(
        "in memory: first index",
        (&measured, seconds / scale as f64 * 1e6),
        // Three times the rate that is asked of the one into PostgreSQL.
        Target::AtMost(300.0, "s for a million"),
        &beside,
        &times(seconds / other),
    );
    if let Some((first, last)) = pace.tenths() {
        report.row(
            "in memory: time a product in the last tenth of the first index",
            &format!("{:.0} µs", last * 1e6),
            &format!("in the first tenth, {:.0} µs", first * 1e6),
            &times(last / first),
        );
    }
    quiet(|| vec![server.pid()]);
    walk(ground, &server, report);
    let mut pages = Pages::of(&server, "in memory: ", None);
    pages.some(report);
    Arrivals::on(ground, &server).idle("in memory: ", report);
    let peak = server.memory("VmHWM");
    let each = peak as f64 / scale as f64 / 1024.0;
    report.figure(
        "in memory: memory of `dpd serve` at its peak",
        (&format!("{} MiB, {each:.2} KiB a product", peak >> 20), each),
        Target::AtMost(2.5, "KiB a product"),
        &format!("now, {} MiB", server.memory("VmRSS") >> 20),
        &times(peak as f64 / server.memory("VmRSS") as f64),
    );
}

fn walk(ground: &Ground, server: &Server, report: &mut Report) {
    let find = shell(&ground.path(), FIND);
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let before = server.status()["pv_interface_status"]["index_time_modified"].clone();
        assert_eq!(server.get("/reindexdataproducts").status, 202);
        best = best.min(walked(server, &before));
    }
    report.figure(
        "in memory: walk of the unchanged volume",
        (&format!("{best:.2} s"), best / find),
        Target::AtMost(1.5, "times `find`"),
        &format!("`find`, {find:.2} s"),
        &times(best / find),
    );
}
