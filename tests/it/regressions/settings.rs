//! Environments as they are met: written by charts, by Kubernetes, and by hand.

use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use tests::etcd::Etcd;
use tests::postgres::Postgres;
use tests::program::{Daemons, SAMPLE, Server, binary, serve, with_bare_environment};
use tests::volume::Volume;

/// Runs a program that is expected to end.
pub(super) fn run(daemons: &Daemons, program: &str, arguments: &[&str]) -> Output {
    daemons.command("timeout").arg("60").arg(binary(program)).args(arguments).output().expect("its end")
}

/// The one line that a program which cannot start says.
pub(super) fn refused(daemons: &Daemons, program: &str, arguments: &[&str]) -> String {
    let output = run(daemons, program, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

fn serving(volume: &Volume, variables: &[(&str, &str)]) -> Server {
    let mut command = serve(volume.path());
    command.envs(variables.iter().copied());
    Server::with(command, true)
}

/// What a page of this origin is told that it may do.
fn allowed(server: &Server, origin: &str) -> String {
    server.get_with("/status", &[("origin", origin)]).header("access-control-allow-origin").to_owned()
}

#[test]
fn a_dashboard_may_be_a_path_or_a_url() {
    let volume = Volume::new();
    let url = "REACT_APP_SKA_DATAPRODUCT_DASHBOARD_URL";
    let port = ("REACT_APP_SKA_DATAPRODUCT_DASHBOARD_PORT", "8100");
    for path in ["/integration/dashboard", ""] {
        let server = serving(&volume, &[(url, path), port]);
        assert_eq!(allowed(&server, "http://localhost:8100"), "", "{path:?}");
    }
    let server = serving(&volume, &[(url, "https://Sdhp.Example.org/integration/dashboard"), port]);
    for origin in ["https://sdhp.example.org", "https://sdhp.example.org:8100"] {
        assert_eq!(allowed(&server, origin), origin);
    }
    assert_eq!(allowed(&server, "https://sdhp.example.org/integration/dashboard"), "");
}

#[test]
fn values_are_taken_as_charts_write_them() {
    let volume = Volume::new();
    let server = serving(
        &volume,
        &[
            ("INDEXING_PARALLEL_WORKERS", "4.0"),
            ("INDEXING_BATCH_SIZE", "1e+02"),
            ("INDEXING_TIMEOUT_SECONDS", "21600.0"),
            ("DPD_RECONCILE_SECONDS", "2.5"),
            ("STREAM_CHUNK_SIZE", "1e+06"),
            ("API_VERBOSE", "True"),
            ("PVCNAME", "volume\n"),
            ("SDP_CONFIG_PORT", "tcp://10.96.0.1:2379"),
            ("SKA_DATAPRODUCT_API_POSTGRESQL_PORT", "tcp://10.96.0.2:5432"),
        ],
    );
    let volume_status = server.status()["pv_interface_status"].clone();
    assert_eq!(volume_status["indexing_parallel_workers"], 4);
    assert_eq!(volume_status["indexing_batch_size"], 100);
    assert_eq!(volume_status["indexing_timeout_seconds"], 21600);
    assert_eq!(volume_status["metadata_store_name"], "volume");
}

#[test]
fn quotes_and_secrets_are_told_of_without_the_secret() {
    let volume = Volume::new();
    let daemons = Daemons::of(volume.path(), "postgres://me@127.0.0.1:1/dpd");
    for (name, value, says) in [
        ("DATABASE_URL", "postgres://dpd:12?geheim@127.0.0.1:5432/dpd", "%3F"),
        ("DATABASE_URL", "postgres://dpd:12#geheim@127.0.0.1:5432/dpd", "%23"),
        ("DATABASE_URL", "postgres://dpd:12/geheim@127.0.0.1:5432/dpd", "%2F"),
        ("DATABASE_URL", "postgres://dpd:12@geheim@127.0.0.1:5432/dpd", "%40"),
        ("DATABASE_URL", "postgres://dpd:geheim@127.0.0.1:5432/dpd?gehe_im=geheim", "gehe_im"),
        ("DATABASE_URL", "'postgres://dpd:geheim@127.0.0.1:5432/dpd'", "quotes"),
        ("SDP_CONFIG_PASSWORD", "\"geheim\"", "quotes"),
        ("PVCNAME", "\"volume\"", "quotes"),
        ("INDEXING_TIMEOUT_SECONDS", "'10'", "quotes"),
        ("INDEXING_TIMEOUT_SECONDS", "1e400", "1e400"),
        ("SDP_CONFIG_PORT", "-1", "-1"),
    ] {
        for program in ["dpd-indexer", "dpd-api"] {
            let said = refused(&daemons.with("RUST_LOG", "trace").with(name, value), program, &[]);
            assert!(said.contains(name) && said.contains(says), "{said}");
            assert!(!said.contains("geheim"), "{said}");
        }
    }
}

#[test]
fn no_part_of_a_url_is_in_a_log() {
    let (volume, database) = (Volume::new(), Postgres::shared().database());
    volume.product("eb-1", "eb-a-20240101-1", "");
    let url = database.url().replace("postgres@", "postgres:ge%3Fheim@");
    let (indexer, api) = Daemons::of(volume.path(), &url).with("RUST_LOG", "trace").pair();
    api.wait_for_folders(&["eb-1"]);
    for log in [indexer.log(), api.log()] {
        assert!(log.contains("TRACE") && !log.contains("heim"), "{log}");
    }
}

#[test]
fn a_service_link_is_a_port() {
    let (volume, database) = (Volume::new(), Postgres::shared().database());
    let link = format!("tcp://{}", database.host_port());
    let daemons = Daemons::of(volume.path(), "")
        .with("SKA_DATAPRODUCT_API_POSTGRESQL_HOST", "127.0.0.1")
        .with("SKA_DATAPRODUCT_API_POSTGRESQL_DBNAME", database.name())
        .with("SKA_DATAPRODUCT_API_POSTGRESQL_PORT", link);
    let output = run(&daemons, "dpd-indexer", &["migrate"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let broken = daemons.with("SKA_DATAPRODUCT_API_POSTGRESQL_PORT", "udp://127.0.0.1:5432");
    assert!(refused(&broken, "dpd-indexer", &["migrate"]).contains("enableServiceLinks"));
}

#[test]
fn an_etcd_that_asks_for_no_password_is_followed_with_one() {
    let (etcd, volume) = (Etcd::start(), Volume::new());
    let server = serving(
        &volume,
        &[
            ("SDP_CONFIG_HOST", "127.0.0.1"),
            ("SDP_CONFIG_PORT", &format!("tcp://127.0.0.1:{}", etcd.port())),
            ("SDP_CONFIG_USERNAME", "root"),
            ("SDP_CONFIG_PASSWORD", "geheim\n"),
        ],
    );
    server.wait_for_status("the watch", |status| {
        let sdp = &status["sdp_config_db"];
        sdp["connected"] == json!(true) && sdp["watcher_connected"] == json!(true)
    });
}

#[test]
fn a_long_lease_is_warned_of() {
    let (volume, database) = (Volume::new(), Postgres::shared().database());
    let daemons = Daemons::of(volume.path(), &database.url());
    for (term, warned) in [("300", true), ("60.5", true), ("60.0", false)] {
        let indexer = daemons.with("INDEXING_HEARTBEAT_STALE_SECONDS", term).indexer();
        tests::wait_for("the start", || indexer.log().contains("indexing this volume").then_some(()));
        assert_eq!(indexer.log().contains("WARN INDEXING_HEARTBEAT_STALE_SECONDS"), warned, "{term}");
    }
}

/// What `dpd status` ends with, and says, in an environment.
fn status(server: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = with_bare_environment(Command::new(binary("dpd")));
    command.args(["status", "--server", server]).envs(variables.iter().copied());
    let output = command.output().expect("its end");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A proxy that takes one connection, and answers what it was asked for.
fn proxy() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let (mut asked, mut part) = (Vec::new(), [0; 1024]);
        while !asked.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut part).expect("a request");
            asked.extend_from_slice(&part[..read]);
        }
        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").expect("an answer");
        String::from_utf8_lossy(&asked).into_owned()
    });
    (address, asked)
}

#[test]
fn proxies_are_those_of_the_scheme() {
    let dead = "http://127.0.0.1:9";
    for variables in [
        &[("https_proxy", dead)][..],
        &[("HTTPS_PROXY", dead), ("HTTP_PROXY", dead)],
        &[("http_proxy", dead), ("no_proxy", "127.0.0.1")],
        &[("ALL_PROXY", dead), ("NO_PROXY", "*")],
        &[("all_proxy", dead), ("no_proxy", "10.0.0.0/8, 127.0.0.0/8")],
    ] {
        let (code, said) = status(&SAMPLE.url, variables);
        assert_eq!(code, Some(0), "{variables:?}: {said}");
    }
    for name in ["http_proxy", "all_proxy", "ALL_PROXY"] {
        let (code, said) = status(&SAMPLE.url, &[(name, dead)]);
        assert_eq!(code, Some(5), "{name}: {said}");
        assert!(said.contains("proxy 127.0.0.1:9") && said.contains(name), "{said}");
    }
    let (address, asked) = proxy();
    let (code, said) = status(&SAMPLE.url, &[("http_proxy", &format!("http://me:geheim@{address}"))]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains(&address) && !said.contains("geheim"), "{said}");
    let asked = asked.join().expect("what was asked");
    assert!(asked.contains(SAMPLE.url.trim_start_matches("http://")), "{asked}");
    assert_eq!(status(&SAMPLE.url, &[("http_proxy", "ftp://127.0.0.1")]).0, Some(2));
}
