//! The indexer and the API on a PostgreSQL of their own, beside the standalone program and each other.

use crate::report::{FIND, Report, Times, milliseconds, shell, walked};
use crate::requests;
use rustix::process::Signal;
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::postgres::{Database, Postgres};
use tests::program::{Server, binary, with_bare_environment};
use tests::volume::Volume;

const TAKEOVERS: usize = 20;
/// The term of the takeovers, in seconds: a short one, so that twenty of them end soon.
const TERM: f64 = 3.0;

/// Measures them; `in_memory` is how long the standalone program took for its first index, where it was measured.
pub(crate) fn measure(volume: &Volume, scale: usize, in_memory: Option<f64>, report: &mut Report) {
    let postgres = Postgres::for_measurement();
    let database = postgres.database();
    let api = Server::with(daemon("dpd-api", volume, &database), false);
    let indexer = first_index(volume, &database, &api, scale, in_memory, report);
    let indexer = restart(volume, &database, &api, indexer, report);
    requests::pages(&api, &requests::FILTERS[..5], report);
    requests::arrivals(volume, &api, "through another process", report);
    report.row(
        "memory of dpd-api after that, at its peak",
        &format!("{} MiB", api.memory("VmHWM") >> 20),
        &format!("dpd-indexer, {} MiB", indexer.memory("VmHWM") >> 20),
        "",
    );
    drop(indexer);
    takeovers(volume, &database, &api, report);
}

fn daemon(program: &str, volume: &Volume, database: &Database) -> Command {
    let mut command = with_bare_environment(Command::new(binary(program)));
    command.env("DATABASE_URL", database.url()).env("PERSISTENT_STORAGE_PATH", volume.path());
    command.env("DPD_INDEXER_LISTEN", "127.0.0.1:0").env("DPD_API_LISTEN", "127.0.0.1:0");
    command
}

fn first_index(
    volume: &Volume,
    database: &Database,
    api: &Server,
    scale: usize,
    in_memory: Option<f64>,
    report: &mut Report,
) -> Server {
    let indexer = Server::with(daemon("dpd-indexer", volume, database), false);
    tests::wait_for("the lease", || (api.get("/readyz").status == 200).then_some(()));
    let seconds = walked(api, &Value::Null);
    report.row(
        "first index",
        &format!("{seconds:.2} s, {:.0} products/s", scale as f64 / seconds),
        &in_memory
            .map_or("nothing".to_owned(), |own| format!("in memory, {own:.2} s, {:.0} products/s", scale as f64 / own)),
        &in_memory.map_or(String::new(), |own| format!("{:.1}×", seconds / own)),
    );
    let bytes = database.value("SELECT pg_database_size(current_database())").as_u64().unwrap_or_default();
    report.row(
        "the database's size",
        &format!("{} MiB", bytes >> 20),
        &format!("{scale} products"),
        &format!("{:.1} KiB a product", bytes as f64 / scale as f64 / 1024.0),
    );
    let peak = indexer.memory("VmHWM");
    report.row(
        "peak memory of dpd-indexer",
        &format!("{} MiB", peak >> 20),
        &format!("{scale} products"),
        &format!("{:.1} KiB a product", peak as f64 / scale as f64 / 1024.0),
    );
    indexer
}

/// The indexer again, on a volume on which nothing changed.
fn restart(volume: &Volume, database: &Database, api: &Server, indexer: Server, report: &mut Report) -> Server {
    // Sizes are measured in the background.
    tests::wait_for("the sizes", || {
        (database.value("SELECT count(*) FROM data_product WHERE NOT measured") == 0).then_some(())
    });
    let before = api.status()["pv_interface_status"]["index_time_modified"].clone();
    let written = rows_written(database);
    indexer.signal(Signal::TERM);
    drop(indexer);
    let find = shell(volume.path(), FIND);
    let indexer = Server::with(daemon("dpd-indexer", volume, database), false);
    let seconds = walked(api, &before);
    assert_eq!(rows_written(database), written, "an unchanged volume was written anew");
    report.row(
        "restart on the unchanged volume",
        &format!("{seconds:.3} s"),
        &format!("`find`, {find:.3} s"),
        &format!("{:.1}×", seconds / find),
    );
    indexer
}

fn rows_written(database: &Database) -> Value {
    database.value("SELECT (count(*), max(written_at), max(xmin::text::bigint))::text FROM data_product")
}

/// How long nobody has the lease after its holder was killed, and after it was asked to end.
fn takeovers(volume: &Volume, database: &Database, api: &Server, report: &mut Report) {
    for (what, signal) in [("SIGKILL", Signal::KILL), ("SIGTERM", Signal::TERM)] {
        let start = || {
            let mut command = daemon("dpd-indexer", volume, database);
            command.env("INDEXING_HEARTBEAT_STALE_SECONDS", TERM.to_string());
            Server::with(command, false)
        };
        let is = |server: &Server, state: &str| (server.status()["state"] == state).then_some(());
        let mut holder = start();
        tests::wait_for("the lease", || is(&holder, "holding the lease"));
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..TAKEOVERS {
            let standby = start();
            tests::wait_for("a standby", || is(&standby, "standing by"));
            let epoch = api.status()["indexing"]["coordination_state"]["epoch"].clone();
            let begun = Instant::now();
            holder.signal(signal);
            tests::wait_for("the takeover", || {
                (api.status()["indexing"]["coordination_state"]["epoch"] != epoch).then_some(())
            });
            times.push(begun.elapsed());
            holder = standby;
        }
        let times = Times::of(times);
        report.row(
            &format!("takeover after {what}, {TAKEOVERS} times"),
            &format!("median {}, worst {}", milliseconds(times.median()), milliseconds(times.percentile(100))),
            &format!("the term, {TERM} s"),
            &format!("{:.2}×", times.median().as_secs_f64() / TERM),
        );
    }
}
