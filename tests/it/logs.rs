//! What the programs log: one object a line for machines, what failed with its request, and nothing that is secret.

use serde_json::Value;
use std::io::Write;
use std::time::Duration;
use tests::permissions::{MEMBER, Permissions};
use tests::postgres::Postgres;
use tests::program::{Daemons, Server, read_all, with_bare_environment};
use tests::volume::Volume;

/// What must be in no log.
const SECRETS: [&str; 5] = ["geheimwort", "geheimpfad", "geheimkey", MEMBER, "token-that-nobody-knows"];

/// The lines of a log of objects.
fn lines(program: &Server) -> Vec<Value> {
    let log = program.log();
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
        line
    };
    log.lines().map(read).collect()
}

/// The line of a log that has this message and these fields.
fn line(program: &Server, message: &str, fields: &[(&str, Value)]) -> Value {
    let is_so = |line: &Value| line["message"] == message && fields.iter().all(|(field, value)| line[*field] == *value);
    tests::wait_for(&format!("{message} {fields:?}"), || lines(program).into_iter().find(is_so))
}

/// Asks an API much that is wrong, and some of what is right.
fn ask_garbage(api: &Server) {
    for request in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET geheimpfad HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /geheimpfad\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /status HTTP/1.1\r\nHost: a\r\nX: \xff\xfe\r\nX-Request-ID: a\"b\r\nConnection: close\r\n\r\n",
        b"POST /dataproductsearch HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\nConnection: close\r\n\r\n",
    ] {
        let mut connection = api.connect();
        // It may be closed before all is sent.
        let _ = connection.write_all(request);
        read_all(&connection, Duration::from_secs(1));
    }
    let search = br#"{"key_value_pairs": ["geheimkey:geheimwort"]}"#;
    for (method, path, token, body) in [
        ("POST", "/dataproductsearch", Some(MEMBER), &search[..]),
        ("POST", "/dataproductsearch", Some("token-that-nobody-knows"), b"{\"key_value_pairs\": \"geheimwort\"}"),
        ("POST", "/filterdataproducts", None, b"geheimwort"),
        ("POST", "/dataproductmetadata", Some(MEMBER), br#"{"execution_block": "geheimwort"}"#),
        ("GET", "/download/geheimpfad?execution_block=geheimwort", Some(MEMBER), b""),
        ("GET", "/products/fae09f0c-535b-2fbd-8dd5-202a1d35ec57/files/geheimpfad", None, b""),
        ("GET", "/annotations/geheimpfad", Some(MEMBER), b""),
        ("GET", "/geheimpfad?token=geheimwort", None, b""),
    ] {
        api.ask(method, path, token, body);
    }
}

#[test]
fn every_line_is_one_object_whatever_goes_wrong() {
    let server = Postgres::start();
    let (volume, database, permissions) = (Volume::in_memory(), server.empty_database(), Permissions::start());
    let daemons = Daemons::of(volume.path(), &database.url())
        .with("DPD_LOG_FORMAT", "json")
        .with("API_VERBOSE", "true")
        .with("PVCNAME", "shared")
        .with("SDP_CONFIG_PASSWORD", "geheimwort")
        .with("SKA_PERMISSIONS_API_HOST", permissions.url());
    let (indexer, api) = daemons.pair();
    volume.product("eb-a\u{1b}[31m\u{202e}\n\"b", "eb-test-20240101-00001", "");
    volume.write("eb-b/ska-data-product.yaml", "a: [\n");
    api.wait_for_status("what does not read", |status| {
        status["pv_interface_status"]["number_of_data_products_on_pv"] == 1
    });
    ask_garbage(&api);
    server.kill();
    tests::wait_for("no answer", || (api.post_bytes("/dataproductsearch", b"{}").status == 503).then_some(()));
    ask_garbage(&api);
    volume.product("eb-c", "eb-test-20240101-00002", "");
    line(&api, "no connection to the database", &[]);
    line(&indexer, "the store takes no changes, they are kept", &[]);
    server.restart();
    api.wait_for_status("both", |status| status["pv_interface_status"]["number_of_data_products_on_pv"] == 2);
    line(&indexer, "this metadata file does not read", &[("path", "eb-b/ska-data-product.yaml".into())]);

    for (program, name) in [(&indexer, "dpd-indexer"), (&api, "dpd-api")] {
        let lines = lines(program);
        let (first, settings) = (&lines[0], lines[0]["settings"].as_str().expect("settings"));
        assert_eq!((&first["message"], &first["program"]), (&"starting".into(), &name.into()), "{first}");
        assert!(first["version"].is_string(), "{first}");
        for set in ["PVCNAME=shared", "SDP_CONFIG_PASSWORD=(not shown)", "DATABASE_URL=(not shown)"] {
            assert!(settings.contains(set), "{settings}");
        }
        let why = lines.iter().find(|line| line["message"] == "no connection to the database").expect("the outage");
        assert!(why["error"].as_str().is_some_and(|error| !error.is_empty()), "{why}");
        for secret in SECRETS {
            let told = lines.iter().find(|line| line.to_string().contains(secret));
            assert!(told.is_none(), "{secret} is told by {name}: {told:?}");
        }
        let obeyed = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!program.log().contains(obeyed), "{name}: {}", program.log());
    }
}

#[test]
fn requests_that_fail_or_are_slow_are_a_line_each() {
    let server = Postgres::start();
    let (volume, database) = (Volume::in_memory(), server.empty_database());
    let daemons = Daemons::of(volume.path(), &database.url()).with("DPD_LOG_FORMAT", "json");
    let (_indexer, api) = daemons.pair();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let ask = |id: &str| {
        let headers = [("x-request-id", id), ("traceparent", &parent)];
        api.ask_with("POST", "/dataproductsearch", &headers, br#"{"key_value_pairs": ["geheimkey:geheimwort"]}"#)
    };
    let quick = ask("quick-1");
    assert_eq!((quick.status, quick.header("x-request-id")), (200, "quick-1"));
    assert_eq!(api.get("/status").header("x-request-id").len(), 32);

    let lock = database.lock("dpd_indexing_state");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask("slow-1"));
        // It is told of what takes PostgreSQL longer than two seconds: as a summary, which is one line.
        tests::wait_for("a statement that waits", || {
            let waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'dpd-api%' \
                         AND clock_timestamp() - query_start > '2.1 s'";
            (!database.rows(waits).is_empty()).then_some(())
        });
        drop(lock);
        assert_eq!(asking.join().expect("an answer").status, 200);
    });
    let slow = line(&api, "a request was slow", &[("request_id", "slow-1".into())]);
    assert_eq!((&slow["trace_id"], &slow["route"]), (&trace.into(), &"/dataproductsearch".into()), "{slow}");
    assert_eq!((&slow["method"], &slow["status"]), (&"POST".into(), &200.into()), "{slow}");
    assert!(slow["duration_ms"].as_f64() > Some(1000.0), "{slow}");
    let statement = tests::wait_for("a slow statement", || {
        lines(&api).into_iter().find(|line| line["target"] == "sqlx::query" && line["level"] == "WARN")
    });
    assert!(statement["summary"].is_string() && statement.get("db.statement").is_none(), "{statement}");

    server.kill();
    let failed = tests::wait_for("a failure", || Some(ask("failed-1")).filter(|answer| answer.status == 503));
    assert_eq!(failed.header("x-request-id"), "failed-1");
    let failed = line(&api, "a request failed", &[("request_id", "failed-1".into())]);
    assert_eq!((&failed["status"], &failed["trace_id"]), (&503.into(), &trace.into()), "{failed}");
    let of_path = "/annotations/fae09f0c-535b-2fbd-8dd5-202a1d35ec57";
    let id = api.get(of_path).header("x-request-id").to_owned();
    let failed = line(&api, "a request failed", &[("request_id", id.into())]);
    assert_eq!((&failed["route"], failed.get("trace_id")), (&"/annotations/{uid}".into(), None), "{failed}");
    assert!(lines(&api).iter().all(|line| line["request_id"] != "quick-1"));
}

#[test]
fn a_cause_that_is_met_again_and_again_is_told_seldom() {
    let server = Postgres::start();
    let (volume, database) = (Volume::in_memory(), server.empty_database());
    let (indexer, api) = Daemons::of(volume.path(), &database.url()).pair();
    server.kill();
    for _ in 0..20 {
        tests::wait_for("an answer that it fails", || (api.get("/readyz").status == 503).then_some(()));
    }
    for (program, words) in [
        (&api, ["no connection to the database: ", "the database cannot be used: "]),
        (&indexer, ["no connection to the database: ", "what was written lately stays apart"]),
    ] {
        for words in words {
            let log = program.log();
            let mut told: Vec<&str> = log.lines().filter_map(|line| line.split_once(words)?.1.into()).collect();
            let all = told.len();
            told.sort_unstable();
            told.dedup();
            assert_eq!(told.len(), all, "{words}: {log}");
        }
    }
    assert!(indexer.log().contains("INFO starting program=\"dpd-indexer\""), "{}", indexer.log());
}

#[test]
fn a_format_that_there_is_not_is_refused() {
    for (program, arguments) in [("dpd-api", &[][..]), ("dpd-indexer", &[]), ("dpd", &["serve", "/"])] {
        let mut command = with_bare_environment(std::process::Command::new(tests::program::binary(program)));
        command.args(arguments).env("DPD_LOG_FORMAT", "yaml").env("DATABASE_URL", "postgres://a@127.0.0.1:1/a");
        let done = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{program}: {said}");
        assert_eq!(said.trim(), format!("{program}: DPD_LOG_FORMAT: 'yaml' cannot be used; expected text or json"));
    }
}
