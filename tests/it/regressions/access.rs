//! What pages of other sites could have a browser do, by which names a laptop's index could be asked, and a permissions service
//! that ends connections.

use serde_json::json;
use std::process::Command;
use tests::permissions::{MEMBER, Mode, Permissions};
use tests::program::{Server, binary, serve, with_bare_environment};
use tests::volume::Volume;

const DASHBOARD: &str = "https://dash.example.org";

fn start(variables: &[(&str, &str)], listen: &str) -> (Server, Volume) {
    let volume = Volume::new();
    volume.product("eb-open", "eb-open-20240101-00001", "n: 1");
    let mut command = with_bare_environment(Command::new(binary("dpd")));
    command.arg("serve").arg(volume.path()).args(["--listen", listen]).envs(variables.iter().copied());
    let server = Server::with(command, true);
    (server, volume)
}

/// Every request that changes something.
fn writes() -> Vec<(&'static str, &'static str, String)> {
    vec![
        ("GET", "/reindexdataproducts", String::new()),
        ("POST", "/reindexdataproducts", String::new()),
        ("POST", "/ingestnewdataproduct", json!({"execution_block": "eb-open"}).to_string()),
        ("POST", "/ingestnewmetadata", json!({"execution_block": "eb-cross-20240101-1", "x": "written"}).to_string()),
        ("POST", "/annotation", json!({"annotation_text": "x"}).to_string()),
    ]
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let (server, _volume) = start(&[("REACT_APP_SKA_DATAPRODUCT_DASHBOARD_URL", DASHBOARD)], "127.0.0.1:0");
    let own = server.url.clone();
    for (method, path, body) in writes() {
        for foreign in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "https://evil.example"), ("content-type", "text/plain")],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:1")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", &own)],
        ] {
            let answer = server.ask_with(method, path, foreign, body.as_bytes());
            let detail = answer.json()["detail"].to_string();
            assert!(answer.status == 403 && detail.contains("another site"), "{method} {path} {foreign:?}: {detail}");
        }
        for good in [
            &[][..],
            &[("origin", own.as_str())],
            &[("origin", DASHBOARD), ("sec-fetch-site", "cross-site")],
            &[("origin", "https://api.example.org"), ("x-forwarded-host", "api.example.org")],
            &[("sec-fetch-site", "same-origin")],
        ] {
            let answer = server.ask_with(method, path, good, body.as_bytes());
            assert_ne!(answer.status, 403, "{method} {path} {good:?}: {}", answer.json());
        }
    }
    // Reading changes nothing; what a page may read of an answer is for CORS to say.
    let foreign = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    for (method, path) in [("POST", "/dataproductsearch"), ("POST", "/filterdataproducts"), ("GET", "/status")] {
        assert_eq!(server.ask_with(method, path, &foreign, b"{}").status, 200, "{path}");
    }
    let download = json!({"execution_block": "eb-open-20240101-00001"}).to_string();
    assert_eq!(server.ask_with("POST", "/download", &foreign, download.as_bytes()).status, 200);
}

#[test]
fn loopback_is_asked_by_its_own_names() {
    let (server, _volume) = start(&[], "127.0.0.1:0");
    let port = server.url.rsplit(':').next().expect("a port").to_owned();
    let ask = |server: &Server, host: &str| server.get_with("/status", &[("host", host)]);
    for good in ["localhost", "127.0.0.1", "[::1]"] {
        for host in [good.to_owned(), format!("{good}:{port}")] {
            assert_eq!(ask(&server, &host).status, 200, "{host}");
        }
    }
    for bad in ["evil.example", "localhost.evil.example:80", "192.168.1.5"] {
        let answer = ask(&server, bad);
        let detail = answer.json()["detail"].to_string();
        assert!(answer.status == 421 && detail.contains("DPD_ALLOWED_HOSTS"), "{bad}: {} {detail}", answer.status);
        // Neither does what is no route.
        assert_eq!(server.get_with("/nothing", &[("host", bad)]).status, 421, "{bad}");
    }
    // A proxy's own name is said.
    let (named, _named) = start(&[("DPD_ALLOWED_HOSTS", "index.example.org")], "127.0.0.1:0");
    assert_eq!((ask(&named, "index.example.org:443").status, ask(&named, "evil.example").status), (200, 421));
    let (any, _any) = start(&[("DPD_ALLOWED_HOSTS", "*")], "127.0.0.1:0");
    assert_eq!(ask(&any, "evil.example").status, 200);
}

#[test]
fn what_listens_for_others_is_asked_by_any_name() {
    let (server, _volume) = start(&[], "0.0.0.0:0");
    assert_eq!(server.get_with("/status", &[("host", "node-5.example.org")]).status, 200);
}

#[test]
fn a_question_whose_kept_connection_ended_is_asked_again() {
    let (volume, permissions) = (Volume::new(), Permissions::start());
    volume.product("eb-staff", "eb-staff-20240101-00001", "context: {access_group: staff}");
    let mut command = serve(volume.path());
    command.env("SKA_PERMISSIONS_API_HOST", permissions.url());
    let server = Server::with(command, true);
    let total = |token: &str| server.ask("POST", "/filterdataproducts", Some(token), b"{}").json()["total"].clone();
    permissions.set(Mode::EndsKept);
    for n in 0..6 {
        // Another one each time, of whom nothing is known yet.
        assert_eq!(total(&format!("{n}.{MEMBER}")), 1, "caller {n}");
    }
    // The first of them is kept, and ends; what then answers on a new one has no more time than otherwise.
    permissions.set(Mode::Never);
    for n in 0..3 {
        // One token alone may be what it does not answer about.
        assert_eq!(total(&format!("never.{n}.{MEMBER}")), 0);
    }
    // Who asked may have given up a moment before the question did.
    let wait_for_trouble = |expected: &str| {
        server.wait_for_status("the trouble", |status| status["permissions_api"]["error"] == expected);
    };
    wait_for_trouble("the permissions service gave no answer within 2 s");
    // One that breaks off all of them is asked twice, and no more.
    permissions.set(Mode::BreaksOff);
    let before = permissions.asked();
    assert_eq!((total(&format!("broken.{MEMBER}")), permissions.asked() - before), (json!(0), 2));
    wait_for_trouble("the permissions service broke off");
}
