//! What an operator has to see: who indexes, how far behind, what fails, what was cut off.

use super::{api, daemons};
use std::fs;
use std::io::Write;
use tests::PATIENCE;
use tests::metrics::{scrape, wait_for_value};
use tests::postgres::Postgres;
use tests::program::{Server, read_all, serve};
use tests::volume::{Volume, sample};

#[test]
fn paths_that_are_none_make_no_series() {
    let mut command = serve(&sample());
    command.env("DPD_METRICS_LISTEN", "127.0.0.1:0").env("API_ROOT_PATH", "/a");
    let server = Server::with(command, true);
    let url = tests::metrics::address(&server);
    let ask = |path: &str, status: u16| assert_eq!(server.get(path).status, status, "{path}");
    let uid = "fae09f0c-535b-2fbd-8dd5-202a1d35ec57";
    ask("/nothing", 404);
    ask("/a/status", 200);
    // Nothing is kept of them in memory.
    ask(&format!("/annotations/{uid}"), 202);
    ask("/products/other/files", 400);
    let mut connection = server.connect();
    let request = b"SECRET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    connection.write_all(request).expect("a request");
    let answer = read_all(&connection, PATIENCE);
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let before = scrape(&url);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let server = &server;
            scope.spawn(move || {
                for n in 0..2500 {
                    let path = match n % 4 {
                        0 => format!("/{thread}/{n}"),
                        1 => format!("/a/status/{n}"),
                        2 => format!("/products/{thread}-{n}/files"),
                        _ => format!("/x{n}?key={thread}"),
                    };
                    let answer = server.get(&path);
                    assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
                }
            });
        }
    });
    let after = scrape(&url);
    assert_eq!(after.series(), before.series());
    let unmatched =
        |code| after.value("dpd_http_requests_total", &[("route", "unmatched"), ("method", "GET"), ("code", code)]);
    assert_eq!(unmatched("404"), Some(7501.0));
    let method = [("route", "unmatched"), ("method", "other")];
    assert_eq!(after.value("dpd_http_requests_total", &method), Some(1.0));
    let route = [("route", "/products/{uid}/files"), ("code", "400")];
    assert_eq!(after.value("dpd_http_requests_total", &route), Some(2501.0));
}

#[test]
fn who_indexes_shows_and_since_when() {
    let (volume, database) = (Volume::new(), Postgres::shared().empty_database());
    let daemons = daemons(volume.path(), &database.url());
    let (first, (_api, seen)) = (daemons.indexer(), api(&daemons));
    first.wait_for_state("holding the lease");
    let second = daemons.indexer();
    second.wait_for_state("standing by");
    let of = |indexer: &Server| format!("{}/metrics", indexer.url);
    let holds = |indexer: &Server, held: f64, state: &str| {
        let metrics = scrape(&of(indexer));
        assert_eq!(metrics.value("dpd_index_lease_held", &[("volume", "shared")]), Some(held));
        assert_eq!(metrics.value("dpd_indexer_state", &[("state", state)]), Some(1.0));
        assert_eq!(metrics.value("dpd_lease_since_timestamp_seconds", &[]).is_some(), held > 0.0);
        assert_eq!(metrics.value("dpd_summary_age_seconds", &[]).is_some(), held > 0.0);
    };
    wait_for_value(&of(&first), "dpd_summary_age_seconds", &[], |age| age.is_some());
    holds(&first, 1.0, "holding");
    holds(&second, 0.0, "standing_by");
    wait_for_value(&seen, "dpd_index_lease_alive", &[("volume", "shared")], |alive| alive == Some(1.0));
    first.stop();
    wait_for_value(&of(&second), "dpd_summary_age_seconds", &[], |age| age.is_some());
    holds(&second, 1.0, "holding");
    let metrics = scrape(&of(&second));
    assert_eq!(metrics.value("dpd_lease_epoch", &[]), Some(2.0));
    assert_eq!(metrics.value("dpd_lease_takeovers_total", &[]), Some(1.0));
    second.stop();
    wait_for_value(&seen, "dpd_index_lease_alive", &[("volume", "shared")], |alive| alive == Some(0.0));
}

#[test]
fn what_arrives_is_timed_and_what_does_not_read_is_counted() {
    let (volume, database) = (Volume::in_memory(), Postgres::shared().empty_database());
    let daemons = daemons(volume.path(), &database.url());
    let (indexer, api) = daemons.pair();
    let url = format!("{}/metrics", indexer.url);
    assert_eq!(scrape(&url).value("dpd_index_arrival_seconds_count", &[]), Some(0.0));
    volume.product("eb-a", "eb-test-20240101-00001", "");
    api.wait_for_folders(&["eb-a"]);
    wait_for_value(&url, "dpd_index_arrival_seconds_count", &[], |count| count >= Some(1.0));
    wait_for_value(&url, "dpd_index_changes_total", &[("outcome", "added")], |count| count == Some(1.0));
    wait_for_value(&url, "dpd_products", &[("store", "volume")], |count| count == Some(1.0));
    volume.write("eb-b/ska-data-product.yaml", "a: [");
    wait_for_value(&url, "dpd_files_failing", &[("volume", "shared")], |count| count == Some(1.0));
    assert_eq!(scrape(&url).value("dpd_files_failing_new_total", &[]), Some(1.0));
    fs::remove_dir_all(volume.at("eb-a")).expect("removed");
    wait_for_value(&url, "dpd_index_changes_total", &[("outcome", "removed")], |count| count == Some(1.0));
    let metrics = scrape(&url);
    assert_eq!(metrics.value("dpd_watch_mode", &[("mode", "events")]), Some(1.0));
    assert!(metrics.value("dpd_walk_last_success_timestamp_seconds", &[("walk", "whole")]) > Some(1e9));
    assert_eq!(metrics.value("dpd_volume_up", &[("volume", "shared")]), Some(1.0));
    for op in ["open", "list", "read"] {
        assert!(metrics.value("dpd_volume_op_duration_seconds_count", &[("op", op)]) > Some(0.0), "{op}");
    }
}

#[test]
fn downloads_and_searches_are_counted() {
    let database = Postgres::shared().empty_database();
    let daemons = daemons(&sample(), &database.url());
    let (_indexer, _api) = daemons.pair();
    let (api, url) = api(&daemons);
    let archive = api.get("/download?execution_block=eb-aa05-20221118-00042");
    assert_eq!(archive.status, 200);
    api.search(&["processing_script:vis-receive"]);
    let metrics = scrape(&url);
    assert_eq!(metrics.value("dpd_downloads_total", &[("result", "completed")]), Some(1.0));
    assert_eq!(metrics.value("dpd_download_bytes_total", &[]), Some(archive.body.len() as f64));
    assert_eq!(metrics.value("dpd_download_plans_total", &[("result", "made")]), Some(1.0));
    for stage in ["view", "look", "page"] {
        let count = metrics.value("dpd_search_duration_seconds_count", &[("stage", stage)]);
        assert!(count > Some(0.0), "{stage}");
    }
    assert_eq!(metrics.value("dpd_connections_max", &[]).map(|most| most >= 16.0), Some(true));
    assert!(metrics.value("dpd_connections", &[]) >= Some(1.0));
}
