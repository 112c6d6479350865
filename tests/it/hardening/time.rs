//! What takes long: it ends when it may take no longer, and when nobody waits for it any more; and it says so.

use super::{daemons, standalone};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use tests::program::Server;
use tests::volume::Volume;

/// As many as take longer than a test may, if they are not ended.
const SEARCHES: usize = 8;

/// A search that has to look at each of very many values, again and again.
fn costly() -> Value {
    let items: Vec<Value> =
        (0..500).map(|n| json!({"field": "v", "operator": "contains", "value": format!("no{n}")})).collect();
    json!({"filterModel": {"items": items, "logicOperator": "or"}})
}

fn fill(volume: &Volume) {
    // All are others, for one that is there often is looked at once.
    let values: Vec<String> = (1_000_000..1_400_000).map(|n| n.to_string()).collect();
    volume.product("eb", "eb-a-20240101-1", &format!("v: [{}]", values.join(", ")));
}

/// The processor time that a process has used, in hundredths of a second.
fn used(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("its figures");
    // The name before them is in brackets, and may hold any character.
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// Waits until a process uses next to no time.
fn wait_for_rest(server: &Server) {
    tests::wait_for("an end of the work", || {
        let before = used(server);
        // Long enough that one at work gets some time also on a busy machine.
        std::thread::park_timeout(Duration::from_secs(1));
        (used(server) - before < 3).then_some(())
    });
}

#[test]
fn a_search_in_memory_ends_in_time_and_says_so() {
    let running = standalone(fill, &[("DPD_SEARCH_TIMEOUT_SECONDS", "1")]);
    std::thread::scope(|scope| {
        for _ in 0..SEARCHES {
            scope.spawn(|| {
                let answer = running.api.post("/filterdataproducts", &costly());
                assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
                let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
                assert!(
                    detail.contains("longer than 1 s") && detail.contains("DPD_SEARCH_TIMEOUT_SECONDS"),
                    "{detail}"
                );
            });
        }
    });
    wait_for_rest(&running.api);
    assert_eq!(running.api.status()["api_running"], true);
}

#[test]
fn a_search_in_memory_ends_with_its_client() {
    let running = standalone(fill, &[("DPD_SEARCH_TIMEOUT_SECONDS", "3600")]);
    let body = costly().to_string();
    let before = used(&running.api);
    let search = || {
        let mut stream = running.api.connect();
        write!(
            stream,
            "POST /filterdataproducts HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("sent");
        stream
    };
    let searches: Vec<TcpStream> = (0..SEARCHES).map(|_| search()).collect();
    tests::wait_for("the searches to be at work", || (used(&running.api) > before + 50).then_some(()));
    drop(searches);
    wait_for_rest(&running.api);
    assert_eq!(running.api.folders(), ["eb"]);
}

#[test]
fn a_search_in_postgresql_ends_in_time_and_says_so() {
    let running =
        daemons(|volume| volume.product("eb", "eb-a-20240101-1", "v: 1"), &[("DPD_POSTGRESQL_TIMEOUT_SECONDS", "1")]);
    let database = &running.site.as_ref().expect("a site").database;
    database.execute("BEGIN; LOCK TABLE data_product IN ACCESS EXCLUSIVE MODE");
    for (path, body) in [("/filterdataproducts", json!({})), ("/dataproductsearch", json!({}))] {
        let answer = running.api.post(path, &body);
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
        let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
        assert!(
            detail.contains("longer than it may take") && detail.contains("DPD_POSTGRESQL_TIMEOUT_SECONDS"),
            "{detail}"
        );
    }
    database.execute("ROLLBACK");
    assert_eq!(running.api.folders(), ["eb"]);
}

#[test]
fn a_search_in_postgresql_ends_with_its_client() {
    let running = daemons(
        |volume| volume.product("eb", "eb-a-20240101-1", "v: 1"),
        &[("DPD_POSTGRESQL_TIMEOUT_SECONDS", "3600")],
    );
    let database = &running.site.as_ref().expect("a site").database;
    database.execute("BEGIN; LOCK TABLE data_product IN ACCESS EXCLUSIVE MODE");
    let waiting = || {
        // What a transaction saw of others it sees again.
        database.execute("SELECT pg_stat_clear_snapshot()");
        database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
             AND query LIKE '%data_product p %p.number%'",
        )
    };
    let mut stream = running.api.connect();
    stream
        .write_all(b"POST /filterdataproducts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        .expect("sent");
    tests::wait_for("the search to begin", || (waiting() == 1).then_some(()));
    drop(stream);
    tests::wait_for("its end", || (waiting() == 0).then_some(()));
    database.execute("ROLLBACK");
    assert_eq!(running.api.folders(), ["eb"]);
}
