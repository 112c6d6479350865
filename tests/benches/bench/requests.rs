//! What is asked of either program, in the same words.

use crate::generate::{Random, metadata};
use crate::report::{Report, Times, latency, milliseconds};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};
use tests::program::Server;
use tests::volume::Volume;

const ARRIVALS: usize = 200;

/// What a request is called, and its body.
pub(crate) type Filter = (&'static str, fn() -> Value);

/// Bodies of the grid's requests, and what they are called. The last takes long where nothing is prepared for it.
pub(crate) const FILTERS: [Filter; 6] = [
    ("grid page, no filter", || json!({"pageSize": 25})),
    ("grid page, execution block contains, few match", || item("execution_block", "contains", "-0000042")),
    ("grid page, a fifth matches", || item("config.processing_script", "equals", "vis-receive")),
    ("grid page, numeric range", || item("obscore.s_ra", ">", "180")),
    (
        "grid page, sorted by a key",
        || json!({"pageSize": 25, "sortModel": [{"field": "obscore.s_ra", "sort": "desc"}]}),
    ),
    (
        "grid page, any field contains",
        || json!({"pageSize": 25, "filterModel": {"items": [], "quickFilterValues": ["observer_7"]}}),
    ),
];

fn item(field: &str, operator: &str, value: &str) -> Value {
    json!({"pageSize": 25, "filterModel": {"items": [{"field": field, "operator": operator, "value": value}]}})
}

/// Times pages of the grid beside `/status`, whose median it answers.
pub(crate) fn pages(server: &Server, filters: &[Filter], report: &mut Report) -> Duration {
    let status = latency(|| drop(server.status())).median();
    for (what, body) in filters {
        let body = body();
        let times = latency(|| drop(server.filter(&body)));
        let measured = format!("median {}, p95 {}", milliseconds(times.median()), milliseconds(times.percentile(95)));
        let ratio = times.median().as_secs_f64() / status.as_secs_f64();
        report.row(what, &measured, &format!("`/status`, {}", milliseconds(status)), &format!("{ratio:.1}×"));
    }
    status
}

/// From the rename of a product's folder onto the volume to the moment when its metadata is answered.
pub(crate) fn arrivals(volume: &Volume, server: &Server, how: &str, report: &mut Report) {
    let mut random = Random(7);
    // Those of another program are on the volume already.
    let kind = how.replace(' ', "");
    let time = |n: usize| {
        let block = format!("eb-{kind}-20260101-{n:05}");
        // A folder that moves to the storage path is told of also where the limit of watches is reached further down.
        let staged = format!("staging.ms/{block}");
        volume.write(&format!("{staged}/ska-data-product.yaml"), metadata(n, &block, &mut random));
        let begun = Instant::now();
        fs::rename(volume.at(&staged), volume.at(&block)).expect("renamed");
        let body = json!({"execution_block": block});
        while server.post("/dataproductmetadata", &body).status != 200 {}
        begun.elapsed()
    };
    let times = Times::of((0..ARRIVALS).map(time).collect());
    let asking = latency(|| drop(server.post("/dataproductmetadata", &json!({"execution_block": "none"})))).median();
    report.row(
        &format!("rename to searchable {how}, {ARRIVALS} times"),
        &format!("median {}, p99 {}", milliseconds(times.median()), milliseconds(times.percentile(99))),
        &format!("one request, {}", milliseconds(asking)),
        &format!("{:.1}×", times.median().as_secs_f64() / asking.as_secs_f64()),
    );
}
