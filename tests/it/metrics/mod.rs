//! What the programs tell of themselves in metrics: all that is documented and nothing else, and what an operator has to see.

mod alerts;
mod seen;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use tests::metrics::{Metrics, OPEN_METRICS, address, ask, scrape};
use tests::permissions::{MEMBER, Permissions};
use tests::postgres::Postgres;
use tests::program::{Daemons, Server, serve};
use tests::prometheus::Prometheus;
use tests::volume::{Volume, sample};

/// The daemons of a volume, whose API answers those who scrape.
fn daemons(volume: &Path, database_url: &str) -> Daemons {
    Daemons::of(volume, database_url).with("PVCNAME", "shared")
}

/// A running `dpd-api`, and where its metrics are.
fn api(daemons: &Daemons) -> (Server, String) {
    let api = daemons.with("DPD_METRICS_LISTEN", "127.0.0.1:0").api();
    let url = address(&api);
    (api, url)
}

/// A family as it is documented.
#[derive(Debug, PartialEq, Eq)]
struct Documented {
    of: String,
    kind: String,
    labels: BTreeSet<String>,
}

/// The families that `docs/metrics.md` lists, by their names.
fn documented() -> BTreeMap<String, Documented> {
    let text = fs::read_to_string(sample().join("../../docs/metrics.md")).expect("the documentation");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let [name, of, kind, labels, _] = cells[..] else { return None };
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        Some((name.trim_end_matches('`').to_owned(), Documented { of: of.to_owned(), kind: kind.to_owned(), labels }))
    });
    rows.collect()
}

/// Compares what a program tells with what is documented for it, and gives the families that it told nothing of.
fn compare(program: &str, told: &Metrics) -> Vec<String> {
    let documented = documented();
    let mut silent = Vec::new();
    let mut families = BTreeSet::new();
    for (name, family) in &told.0 {
        let name = if family.kind == "counter" { format!("{name}_total") } else { name.clone() };
        let known = documented.get(&name).unwrap_or_else(|| panic!("{name} of {program} is not documented"));
        assert_eq!(known.kind, family.kind, "{name} of {program}");
        assert!(program == "dpd" || known.of == "both" || known.of == program, "{name} is documented for {}", known.of);
        for sample in &family.samples {
            let labels = sample.labels.keys().filter(|label| *label != "le").cloned().collect();
            assert_eq!(known.labels, labels, "{name} of {program}: {sample:?}");
        }
        if family.samples.is_empty() {
            silent.push(name.clone());
        }
        families.insert(name);
    }
    for (name, known) in &documented {
        // What of them needs no database is told by `dpd serve` as well.
        let wanted = program != "dpd" && (known.of == "both" || known.of == program);
        assert!(!wanted || families.contains(name), "{name} is documented for {program}, which does not tell it");
    }
    silent
}

#[test]
fn the_documentation_lists_all_that_is_told() {
    let permissions = Permissions::start();
    let database = Postgres::shared().empty_database();
    let daemons = daemons(&sample(), &database.url()).with("SKA_PERMISSIONS_API_HOST", permissions.url());
    let (indexer, _api) = daemons.pair();
    let (api, url) = api(&daemons.with("DPD_MAX_DOWNLOADS", "1"));
    api.wait_for_status("products", |status| status["metadata_store_status"]["number_of_dataproducts"] != 0);
    assert_eq!(api.ask("POST", "/dataproductsearch", Some(MEMBER), b"{}").status, 200);
    assert!(!api.search(&["processing_script:vis-receive"]).is_empty());
    let block = r#"{"execution_block": "eb-aa05-20221118-00042"}"#;
    assert_eq!(api.ask("POST", "/download", None, block.as_bytes()).status, 200);
    tests::metrics::wait_for_value(&url, "dpd_products", &[("store", "volume")], |products| products > Some(0.0));
    let silent = compare("API", &scrape(&url));
    // No source is configured, and no standby.
    let standby = ["dpd_standby_as_of_timestamp_seconds", "dpd_standby_up"];
    assert_eq!(silent, [&["dpd_sdp_flows", "dpd_source_passed_over", "dpd_source_up"][..], &standby].concat());
    let url = format!("{}/metrics", indexer.url);
    tests::metrics::wait_for_value(&url, "dpd_db_size_bytes", &[], |size| size > Some(0.0));
    tests::metrics::wait_for_value(&url, "dpd_index_oldest_hint_seconds", &[], |oldest| oldest.is_some());
    let silent = compare("indexer", &scrape(&url));
    assert_eq!(silent, ["dpd_sdp_flows", "dpd_source_passed_over", "dpd_source_up"]);

    let mut command = serve(&sample());
    command.env("DPD_METRICS_LISTEN", "127.0.0.1:0");
    let server = Server::with(command, true);
    compare("dpd", &scrape(&address(&server)));
}

#[test]
fn both_formats_are_answered_to_whoever_asks_for_them() {
    let mut command = serve(&sample());
    command.env("DPD_METRICS_LISTEN", "127.0.0.1:0");
    let server = Server::with(command, true);
    let url = address(&server);
    server.get("/status");
    for (accept, content_type, ends) in [
        (OPEN_METRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8", true),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8", false),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", false),
    ] {
        let answer = ask(&url, accept);
        assert_eq!((answer.status, answer.header("content-type")), (200, content_type), "{accept}");
        let text = String::from_utf8(answer.body).expect("text");
        assert_eq!(text.ends_with("# EOF\n"), ends, "{accept}");
        let counter = if ends { "# TYPE dpd_http_requests counter" } else { "# TYPE dpd_http_requests_total counter" };
        assert!(text.contains(&format!("\n{counter}\n")), "{accept}: {text}");
    }
    let elsewhere = url.replace("/metrics", "/status");
    assert_eq!(ask(&elsewhere, "*/*").status, 404);
    // They are on no port that the world sees.
    assert_eq!(server.get("/metrics").status, 404);
}

#[test]
fn a_real_prometheus_scrapes_both_programs() {
    let database = Postgres::shared().empty_database();
    let daemons = daemons(&sample(), &database.url());
    let (indexer, _api) = daemons.pair();
    let (api, url) = api(&daemons);
    api.search(&[]);
    let host = |url: &str| url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    let prometheus = Prometheus::start(&[host(&url), host(&indexer.url)]);
    tests::wait_for("Prometheus to scrape both", || {
        let targets = prometheus.targets();
        for target in &targets {
            assert_eq!(target["lastError"], "", "{target:#}");
        }
        (targets.len() == 2 && targets.iter().all(|target| target["health"] == "up")).then_some(())
    });
    assert!(!prometheus.log().contains("level=error"), "{}", prometheus.log());
}

#[test]
fn an_indexer_has_metrics_on_its_health_port_or_on_one_of_their_own() {
    let (volume, database) = (Volume::new(), Postgres::shared().empty_database());
    let daemons = daemons(volume.path(), &database.url());
    let indexer = daemons.indexer();
    assert_eq!(
        scrape(&format!("{}/metrics", indexer.url)).value("dpd_build_info", &[("program", "dpd-indexer")]),
        Some(1.0)
    );
    indexer.stop();
    let indexer = daemons.with("DPD_METRICS_LISTEN", "127.0.0.1:0").indexer();
    let url = address(&indexer);
    assert_eq!(scrape(&url).value("dpd_build_info", &[("program", "dpd-indexer")]), Some(1.0));
    assert_eq!(indexer.get("/metrics").status, 404);
}
