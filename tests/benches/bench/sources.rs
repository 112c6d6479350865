//! The sources beside the volume: how fast a flow's change shows and is caught up with, and what data items of the Data
//! Lifecycle Manager cost, ten for each product of the volume, a fifth of them with metadata.

use crate::client::{Client, post};
use crate::ground::Ground;
use crate::measure::{database_processes, latency, processor_seconds, walked};
use crate::report::{Report, Times, milliseconds};
use crate::searches::{SEARCHES, page};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};
use tests::etcd::{Etcd, key, state, value};
use tests::postgres::{Database, Postgres};
use tests::program::{Daemons, Server};
use tests::proxy::Proxy;

/// Flow changes that are timed one by one, and changes during the cut.
const CHANGES: usize = 200;
const MISSED: usize = 1000;
const CUT: Duration = Duration::from_secs(30);
/// How long the steady cost is taken over.
const STEADY: Duration = Duration::from_secs(80);
/// How long the writing of the copy may take to settle before.
const SETTLE: Duration = Duration::from_secs(20);
const BLOCK: &str = "pb-bench-20250101-0";

/// Measures both.
pub(crate) fn measure(ground: &Ground, scale: usize, report: &mut Report) {
    let postgres = Postgres::for_measurement("1GB");
    let database = postgres.database();
    let daemons = Daemons::of(&ground.path(), &database.url()).with("DPD_WATCH", "poll");
    let (indexer, api) = (daemons.indexer(), daemons.api());
    let seconds = walked(&api, &Value::Null);
    println!("indexed in {seconds:.1} s");
    flows(&daemons, indexer, &api, report);
    items(&daemons, &database, &api, scale, report);
}

fn flows(daemons: &Daemons, indexer: Server, api: &Server, report: &mut Report) {
    indexer.stop();
    let etcd = Etcd::start();
    let proxy = Proxy::to_anything(etcd.port());
    etcd.put_all((0..MISSED).map(|n| (key(BLOCK, &n.to_string()), value(&format!("eb-none/{n}")))));
    let indexer = daemons
        .with("SDP_CONFIG_HOST", "127.0.0.1")
        .with("SDP_CONFIG_PORT", proxy.port().to_string())
        .with("SKA_DATAPRODUCT_API_SDP_WATCHER_RECONNECT_DELAY_SECONDS", "1")
        .indexer();
    let with_status = |status: &str| {
        let item = json!({"field": "sdp_flow_status", "operator": "equals", "value": status});
        api.filter(&json!({"pageSize": 1, "filterModel": {"items": [item]}}))["total"].as_u64().unwrap_or_default()
    };
    let put = |n: usize, status: &str| etcd.put(format!("{}/state", key(BLOCK, &n.to_string())), state(status));
    tests::wait_for("the flows", || (api.search(&["sdp_flow_placeholder:true"]).len() == MISSED).then_some(()));
    let times = Times::of(
        (0..CHANGES)
            .map(|n| {
                let status = format!("STEP-{n}-");
                let begun = Instant::now();
                put(n, &status);
                while with_status(&status) == 0 {
                    // Both cores are needed for what is waited for.
                    thread::sleep(Duration::from_millis(1));
                }
                begun.elapsed()
            })
            .collect(),
    );
    let asking = latency(|_| assert_eq!(with_status("none"), 0)).median();
    report.row(
        &format!("change of a flow to its row, across processes, {CHANGES} times"),
        &format!("median {}, p99 {}", milliseconds(times.median()), milliseconds(times.percentile(99))),
        &format!("one request, {}", milliseconds(asking)),
        &format!("{:.1}×", times.median().as_secs_f64() / asking.as_secs_f64()),
    );
    proxy.refuse(true);
    let begun = Instant::now();
    etcd.put_all((0..MISSED).map(|n| (format!("{}/state", key(BLOCK, &n.to_string())), state("MISSED"))));
    thread::sleep(CUT.saturating_sub(begun.elapsed()));
    let begun = Instant::now();
    proxy.refuse(false);
    while with_status("MISSED") < MISSED as u64 {}
    report.row(
        &format!("catching up after a cut of {} s with {MISSED} changes", CUT.as_secs()),
        &format!("{:.2} s", begun.elapsed().as_secs_f64()),
        "the longest pause before connecting, 1 s",
        &format!("{:.2}×", begun.elapsed().as_secs_f64()),
    );
    indexer.stop();
}

fn items(daemons: &Daemons, database: &Database, api: &Server, scale: usize, report: &mut Report) {
    // The flows leave first, so that pages are compared over the volume's products alone.
    let indexer = daemons.indexer();
    tests::wait_for("the flows to leave", || api.search(&["sdp_flow_placeholder:true"]).is_empty().then_some(()));
    indexer.stop();
    let without = pages(api);
    tests::dlm::create(database);
    fill(database, 10 * scale);
    let begun = Instant::now();
    let indexer = daemons.with("SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED", "true").indexer();
    let products = 2 * scale as u64;
    while api.status()["metadata_store_status"]["dlm_interface_status"]["number_of_dataproducts"] != products {
        thread::sleep(Duration::from_millis(50));
    }
    let seconds = begun.elapsed().as_secs_f64();
    report.row(
        &format!("first copy of {} data items, {products} with metadata", 10 * scale),
        &format!("{seconds:.1} s, {:.0} products/s", products as f64 / seconds),
        "selecting their metadata, once",
        &format!("{:.1}×", seconds / select(database)),
    );
    steady(database, &indexer, report);
    change_shows(database, api, report);
    for ((name, without), (_, with)) in without.iter().zip(pages(api)) {
        report.row(
            &format!("page, {name}, {products} data items among the products"),
            &format!("median {}, p95 {}", milliseconds(with.median()), milliseconds(with.percentile(95))),
            &format!("without them, {}", milliseconds(without.median())),
            &format!("{:.1}×", with.median().as_secs_f64() / without.median().as_secs_f64()),
        );
    }
}

/// Pages without a filter, and of filters that few products match and that half of them do.
fn pages(api: &Server) -> Vec<(String, Times)> {
    let mut client = Client::of(api);
    let none = ("no filter".to_owned(), None);
    let filters = SEARCHES[1..3].iter().chain(&SEARCHES[7..8]).flat_map(|search| {
        let named = |measure: &str| format!("{}, {measure}", search.name);
        [(named("few match"), search.few), (named("half match"), search.half)]
    });
    std::iter::once(none)
        .chain(filters)
        .map(|(name, asked)| {
            let items = |n| asked.map_or(json!([]), |asked| (asked.body)(n));
            (name, latency(|n| client.good(&post("/filterdataproducts", &page(&items(n), "and", None), None))))
        })
        .collect()
}

/// Makes items with the types and about the sizes of real ones.
fn fill(database: &Database, items: usize) {
    for from in (0..items).step_by(50_000) {
        let to = (from + 50_000).min(items) - 1;
        database.execute(&format!(
            "INSERT INTO dlm.data_item (item_name, uri, item_state, item_size, metadata) \
             SELECT 'item-' || n, 'store/' || n, 'READY', n, CASE WHEN n % 5 = 0 THEN jsonb_build_object( \
             'execution_block', 'eb-dlm-20' || (20 + n % 7) || '0101-' || n, 'interface', 'http://schema.skao.int/x', \
             'config', jsonb_build_object('processing_block', 'pb-dlm-20200101-' || n, 'processing_script', \
             'vis-receive', 'image', 'artefact.skao.int/vis-receive', 'version', '1.' || n % 9), 'context', \
             jsonb_build_object('observer', 'observer_' || n % 50, 'notes', 'as planned'), 'obscore', \
             jsonb_build_object('s_ra', n % 360, 's_dec', -(n % 90), 't_min', 57000 + n % 3000, 'calib_level', n % 3, \
             'target_name', 'field_' || n % 500, 'dataproduct_type', 'MS', 'access_estsize', n, 'pol_xel', 4)) END \
             FROM generate_series({from}, {to}) n"
        ));
    }
    database.execute("ANALYZE dlm.data_item");
}

/// How long it takes to select all metadata in the database, in seconds.
fn select(database: &Database) -> f64 {
    let begun = Instant::now();
    database.value("SELECT sum(length(metadata::text)) FROM dlm.data_item");
    begun.elapsed().as_secs_f64()
}

/// What following the table costs while it stays as it is: processor time of the indexer and of the whole server.
fn steady(database: &Database, indexer: &Server, report: &mut Report) {
    let used =
        || processor_seconds(indexer.pid()) + database_processes().into_iter().map(processor_seconds).sum::<f64>();
    database.execute("CHECKPOINT");
    thread::sleep(SETTLE);
    let before = used();
    thread::sleep(STEADY);
    let share = (used() - before) / STEADY.as_secs_f64();
    report.row(
        "following the table while it stays as it is",
        &format!("{:.2} % of a core", share * 100.0),
        "one core",
        &format!("{share:.4}×"),
    );
}

/// From an item's change to its row.
fn change_shows(database: &Database, api: &Server, report: &mut Report) {
    let time = |n: usize| {
        let name = format!("changed-{n}");
        database.execute(&format!("UPDATE dlm.data_item SET item_name = '{name}' WHERE item_name = 'item-{}'", n * 5));
        let begun = Instant::now();
        while api.search(&[&format!("dlm.item_name:{name}")]).is_empty() {
            thread::sleep(Duration::from_millis(50));
        }
        begun.elapsed()
    };
    let times = Times::of((1..=5).map(time).collect());
    report.row(
        "change of a data item to its row, 5 times",
        &format!("median {:.1} s, worst {:.1} s", times.median().as_secs_f64(), times.percentile(100).as_secs_f64()),
        "a minute",
        &format!("{:.2}×", times.percentile(100).as_secs_f64() / 60.0),
    );
}
