//! PostgreSQL as it is met: by TLS, with passwords that change, in other encodings, read-only, and out of reach in many
//! ways, each of which is told apart.

use super::settings::{refused, run};
use crate::daemons::{Site, wait_for_hits};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tests::postgres::{Database, Postgres};
use tests::program::{Daemons, Server};
use tests::tls::Certificates;
use tests::volume::Volume;

const PREFIX: &str = "SKA_DATAPRODUCT_API_POSTGRESQL";

/// Daemons that are told of their database in parts.
fn in_parts(volume: &Volume, host: &str, database: &Database) -> Daemons {
    let port = database.host_port().rsplit_once(':').expect("a port").1.to_owned();
    Daemons::of(volume.path(), "")
        .with(&format!("{PREFIX}_HOST"), host)
        .with(&format!("{PREFIX}_PORT"), port)
        .with(&format!("{PREFIX}_DBNAME"), database.name())
}

fn migrates(daemons: &Daemons) {
    let output = run(daemons, "dpd-indexer", &["migrate"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What callers of an API are told, whatever the reason is.
const UNUSABLE: &str = "the database cannot be used";

/// Waits until both programs give this reason where those see it who run them, and callers are told none.
fn says(daemons: &Daemons, reason: &str) {
    let (indexer, api) = (daemons.indexer(), daemons.api());
    let told = |text: &serde_json::Value| text.as_str().is_some_and(|text| text.contains(reason));
    indexer.wait_for_status(reason, |status| told(&status["waits_for"]));
    assert!(told(&indexer.get("/readyz").json()["detail"]));
    api.wait_for_status(reason, |status| status["metadata_store_status"]["error"] == UNUSABLE);
    for answer in [api.get("/readyz"), api.post("/dataproductsearch", &json!({}))] {
        assert_eq!((answer.status, answer.json()), (503, json!({"detail": UNUSABLE})), "{reason}");
    }
    for server in [&indexer, &api] {
        tests::wait_for(reason, || server.log().contains(reason).then_some(()));
    }
}

#[test]
fn an_address_of_version_6_is_connected_to() {
    let server = Postgres::start_with(&["listen_addresses=127.0.0.1,::1"]);
    let (volume, database) = (Volume::new(), server.empty_database());
    for host in ["[::1]", "[0:0:0:0:0:0:0:1]"] {
        let url = database.url().replace("127.0.0.1", host);
        migrates(&Daemons::of(volume.path(), &url));
    }
    for host in ["::1", "[::1]"] {
        migrates(&in_parts(&volume, host, &database));
    }
    // Where the machine has an address of a zone, it is found, though nobody listens on it.
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let zone = addresses.lines().find(|line| line.starts_with("fe80")).and_then(|line| line.split_whitespace().last());
    if let Some(zone) = zone {
        let daemons = Daemons::of(volume.path(), &format!("postgres://me@[fe80::1%25{zone}]:1/dpd"));
        let said = refused(&daemons, "dpd-indexer", &["migrate"]);
        assert!(said.contains(&format!("[fe80::1%{zone}]:1")) && !said.contains("lookup"), "{said}");
    }
}

#[test]
fn tls_is_as_it_is_asked_for() {
    let certificates = Certificates::of(&["127.0.0.1"]);
    let (root, other) = (certificates.root(), Certificates::of(&["127.0.0.1"]));
    let secured = Postgres::start_with(&certificates.settings());
    let plain = Postgres::shared();
    let volume = Volume::new();
    let (secured, plain) = (secured.empty_database(), plain.empty_database());
    let mode = format!("{PREFIX}_SSLMODE");
    let authority = format!("{PREFIX}_SSLROOTCERT");
    let with = |host, database: &Database, mode: (&str, &str), authority: (&str, &Path)| {
        in_parts(&volume, host, database).with(mode.0, mode.1).with(authority.0, authority.1)
    };
    for (mode, authority) in [(mode.as_str(), authority.as_str()), ("PGSSLMODE", "PGSSLROOTCERT")] {
        for right in ["verify-full", "verify-ca", "require", "prefer", "allow", "disable"] {
            migrates(&with("127.0.0.1", &secured, (mode, right), (authority, &root)));
        }
        for wrong in ["verify-full", "verify-ca", "require"] {
            let said = refused(
                &with("127.0.0.1", &secured, (mode, wrong), (authority, &other.root())),
                "dpd-indexer",
                &["migrate"],
            );
            assert!(said.contains("is not trusted") && said.contains("127.0.0.1:"), "{wrong}: {said}");
            let said =
                refused(&with("127.0.0.1", &plain, (mode, wrong), (authority, &root)), "dpd-indexer", &["migrate"]);
            assert!(said.contains("does not support TLS"), "{wrong}: {said}");
        }
        // The certificate is of the address alone.
        let said = refused(
            &with("localhost", &secured, (mode, "verify-full"), (authority, &root)),
            "dpd-indexer",
            &["migrate"],
        );
        assert!(said.contains("is not trusted"), "{said}");
        migrates(&with("localhost", &secured, (mode, "verify-ca"), (authority, &root)));
        for unencrypted in ["prefer", "disable"] {
            migrates(&with("127.0.0.1", &plain, (mode, unencrypted), (authority, &root)));
        }
    }
    // Without an authority, `require` encrypts and asks for no more.
    migrates(&in_parts(&volume, "127.0.0.1", &secured).with(&mode, "require"));
    let parameters = format!("?sslmode=verify-full&sslrootcert={}", root.display());
    migrates(&Daemons::of(volume.path(), &format!("{}{parameters}", secured.url())));
    let said =
        refused(&Daemons::of(volume.path(), &format!("{}{parameters}", plain.url())), "dpd-indexer", &["migrate"]);
    assert!(said.contains("does not support TLS"), "{said}");
}

/// A server that lets its superuser in, and asks all others for a password; and a role of that kind.
struct Guarded {
    server: Postgres,
    _folder: TempDir,
}

impl Guarded {
    fn start(settings: &[&str]) -> Guarded {
        let folder = tempfile::tempdir().expect("a folder");
        let rules = folder.path().join("pg_hba.conf");
        std::fs::write(&rules, "host all postgres 127.0.0.1/32 trust\nhost all dpd 127.0.0.1/32 scram-sha-256\n")
            .expect("written");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("for all");
        let rules = format!("hba_file={}", rules.display());
        let server = Postgres::start_with(&[&[rules.as_str()], settings].concat());
        Guarded { server, _folder: folder }
    }

    /// A database that the role has all of.
    fn database(&self) -> Database {
        let database = self.server.empty_database();
        database.execute(&format!(
            "CREATE ROLE dpd LOGIN PASSWORD 'first'; GRANT ALL ON SCHEMA public TO dpd; \
             GRANT ALL ON DATABASE {} TO dpd",
            database.name()
        ));
        database
    }
}

fn write(path: &PathBuf, password: &str) {
    std::fs::write(path, password).expect("written");
}

/// Answers as a server that knows no TLS and wants the password in clear text, and tells what it is sent for it.
fn asks_in_clear_text() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (port, told) = (listener.local_addr().expect("its address").port(), Arc::new(Mutex::new(Vec::new())));
    let heard = told.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            let read = || {
                let mut bytes = [0; 1024];
                let n = (&stream).read(&mut bytes).unwrap_or(0);
                bytes[..n].to_vec()
            };
            let request = read();
            if request.get(4..8) == Some(&[4, 210, 22, 47]) {
                let _ = (&stream).write_all(b"N");
                read();
            }
            let _ = (&stream).write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]);
            let mut rest = Vec::new();
            (&stream).read_to_end(&mut rest).ok();
            heard.lock().expect("it").extend(rest);
        }
    });
    (port, told)
}

#[test]
fn a_password_is_sent_to_nobody_in_clear_text() {
    let volume = Volume::new();
    for mode in ["disable", "prefer"] {
        let (port, told) = asks_in_clear_text();
        let url = format!("postgres://me:geheim@127.0.0.1:{port}/dpd?sslmode={mode}");
        let daemons = Daemons::of(volume.path(), &url);
        let said = refused(&daemons, "dpd-indexer", &["migrate"]);
        assert!(said.contains("in clear text") && said.contains("verify-full"), "{said}");
        let api = daemons.api();
        for _ in 0..5 {
            assert_eq!(api.get("/readyz").status, 503);
        }
        tests::wait_for("the reason", || api.log().contains("in clear text").then_some(()));
        let told = told.lock().expect("it");
        assert!(told.is_empty(), "{mode}: {}", String::from_utf8_lossy(&told));
    }
}

#[test]
fn a_password_is_read_again_for_each_connection() {
    let guarded = Guarded::start(&[]);
    let (database, volume, folder) = (guarded.database(), Volume::new(), TempDir::new().expect("a folder"));
    let file = folder.path().join("password");
    write(&file, "first\n");
    let daemons = in_parts(&volume, "127.0.0.1", &database)
        .with(&format!("{PREFIX}_USER"), "dpd")
        .with(&format!("{PREFIX}_PASSWORD"), "none of it")
        .with(&format!("{PREFIX}_PASSWORD_FILE"), &file);
    volume.product("eb-1", "eb-a-20240101-1", "x: one");
    let (indexer, api) = daemons.pair();
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND usename = 'dpd'";
    tests::wait_for("the listener", || (database.value(listening) == 1).then_some(()));
    // All connections end, and new ones need the other password.
    database.execute("ALTER ROLE dpd PASSWORD 'zweites'");
    write(&file, "zweites\n");
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'dpd'");
    tests::wait_for("the listener", || (database.value(listening) == 1).then_some(()));
    volume.product("eb-2", "eb-a-20240101-2", "x: two");
    tests::wait_for("an answer", || (api.post("/dataproductsearch", &json!({})).status == 200).then_some(()));
    wait_for_hits(&api, "x:two", 1);
    indexer.wait_for_state("holding the lease");
    // A password that is not the right one is told as that, without itself and the user.
    write(&file, "geheim");
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'dpd'");
    let told = |why: &str| {
        // It is found out by whoever asks.
        api.wait_for_status(why, |status| {
            status["metadata_store_status"]["error"] == UNUSABLE && api.log().contains(why)
        });
    };
    told(&format!("PostgreSQL at {} does not take the password", database.host_port()));
    std::fs::remove_file(&file).expect("removed");
    told("PASSWORD_FILE");
    told("No such file");
    write(&file, "zweites");
    tests::wait_for("an answer", || (api.post("/dataproductsearch", &json!({})).status == 200).then_some(()));
    for log in [indexer.log(), api.log()] {
        assert!(!log.contains("geheim") && !log.contains("zweites"), "{log}");
    }
    write(&file, "none");
    assert!(refused(&daemons, "dpd-indexer", &["migrate"]).contains("does not take the password"));
}

#[test]
fn why_there_is_no_connection_is_told_by_its_cause() {
    let volume = Volume::new();
    let of = |url: &str| Daemons::of(volume.path(), url);
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    says(&of(&format!("postgres://me:geheim@{nobody}/dpd")), &format!("connection refused by {nobody}"));
    says(&of("postgres://me@no-such-host.invalid:5433/dpd"), "no-such-host.invalid:5433: failed to lookup address");
    says(&of("postgres://me@%2Fno%2Fsuch%2Ffolder/dpd"), "/no/such/folder/.s.PGSQL.5432: No such file");
    let guarded = Guarded::start(&["max_connections=12", "superuser_reserved_connections=3"]);
    let database = guarded.database();
    let place = database.host_port();
    let role = |name: &str| database.url().replace("postgres@", &format!("{name}@"));
    says(&of(&role("dpd:geheim")), &format!("PostgreSQL at {place} does not take the password"));
    says(&of(&role("nobody")), &format!("PostgreSQL at {place} does not let this user in"));
    says(&of(&format!("postgres://postgres@{place}/other")), "database \"other\" does not exist");
    // The last ones are for superusers; the test itself has one.
    let held: Vec<_> = (0..9).map(|_| database.hold()).collect();
    says(&of(&role("dpd:first")), &format!("PostgreSQL at {place} has no connection left"));
    drop(held);
    // What takes connections and says nothing, and what says something else.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = silent.local_addr().expect("its address");
    says(&of(&format!("postgres://me@{place}/dpd")), "gave no answer within");
    std::thread::spawn(move || {
        for stream in silent.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    says(&of(&format!("postgres://me@{place}/dpd")), &format!("what answers at {place} is not PostgreSQL"));
}

#[test]
fn what_postgresql_says_is_for_the_log() {
    let site = Site::new();
    site.products(1);
    let (_indexer, api) = site.daemons.pair();
    let metadata = |key: &str| json!({"execution_block": "eb-k-20240101-1", key: 1});
    assert_eq!(api.post("/ingestnewmetadata", &metadata("first")).status, 201);
    let is_told = |answer: &tests::program::Answer, word: &str| {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!([422, 503].contains(&answer.status) && !body.contains(word), "{word}: {} {body}", answer.status);
        tests::wait_for(word, || api.log().contains(word).then_some(()));
    };
    // What it says of what it does not take.
    site.database.execute("SELECT setval('metadata_key_id_seq', 2147483647)");
    is_told(&api.post("/ingestnewmetadata", &metadata("another")), "metadata_key_id_seq");
    // And of what it does not find.
    site.database.execute("ALTER TABLE document RENAME TO elsewhere");
    for (path, body) in [("/dataproductsearch", json!({})), ("/dataproductmetadata", json!({"execution_block": "eb"}))]
    {
        let answer = api.post(path, &body);
        is_told(&answer, "document");
        assert_eq!(answer.json(), json!({"detail": UNUSABLE}), "{path}");
    }
    site.database.execute("ALTER TABLE access_rule RENAME TO away");
    is_told(&api.get("/readyz"), "access_rule");
    let status = api.status().to_string();
    assert!(status.contains(UNUSABLE) && !status.contains("access_rule"), "{status}");
    // Once, however often it is met.
    for _ in 0..20 {
        api.get("/readyz");
    }
    api.wait_for_log("access_rule", 1);
}

#[test]
fn a_server_that_ends_under_way_is_told_of_by_its_cause() {
    let server = Postgres::start();
    let site = Site::on(server.database());
    site.products(1);
    let (indexer, api) = site.daemons.pair();
    let refused = format!("connection refused by {}", site.database.host_port());
    server.kill();
    // Of a connection that was there the end is told, and of one that is wanted that there is none.
    tests::wait_for("the reason", || {
        let answer = api.post("/dataproductsearch", &json!({}));
        assert_eq!((answer.status, answer.json()), (503, json!({"detail": UNUSABLE})));
        let log = api.log();
        assert!(!log.contains("in use") && !log.contains("no answer"), "{log}");
        log.contains(&refused).then_some(())
    });
    indexer
        .wait_for_status("the reason", |status| status["waits_for"].as_str().is_some_and(|why| why.contains(&refused)));
    server.restart();
    tests::wait_for("an answer", || (api.post("/dataproductsearch", &json!({})).status == 200).then_some(()));
    indexer.wait_for_state("holding the lease");
}

#[test]
fn connections_that_are_all_in_use_are_told_as_that() {
    let site = Site::new().with("DPD_POSTGRESQL_CONNECTIONS", "3");
    site.products(1);
    let (_indexer, api) = site.daemons.pair();
    let lock = site.database.lock("data_product");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| api.post("/dataproductmetadata", &json!({"execution_block": "eb-a-20240101-0"})));
        }
        api.wait_for_status("the reason", |status| status["metadata_store_status"]["error"] == UNUSABLE);
        let why = "all 3 connections of this process to PostgreSQL are in use";
        tests::wait_for(why, || api.log().contains(why).then_some(()));
        drop(lock);
    });
    tests::wait_for("an answer", || (api.post("/dataproductsearch", &json!({})).status == 200).then_some(()));
}

#[test]
fn a_database_that_cannot_hold_all_text_is_told_of() {
    let server = Postgres::shared();
    let admin = server.empty_database();
    let volume = Volume::new();
    volume.product("eb-1", "eb-a-20240101-1", "x: one");
    for (encoding, works) in [("LATIN1", false), ("EUC_JP", false), ("SQL_ASCII", true)] {
        let name = format!("{}_{}", admin.name(), encoding.to_lowercase());
        admin.execute(&format!(
            "CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ));
        let daemons = Daemons::of(volume.path(), &format!("postgres://postgres@{}/{name}", admin.host_port()));
        if works {
            let (_indexer, api) = daemons.pair();
            api.wait_for_folders(&["eb-1"]);
        } else {
            says(&daemons, &format!("the database's encoding is {encoding}, which cannot hold"));
            says(&daemons, "must be UTF8");
            assert!(refused(&daemons, "dpd-indexer", &["migrate"]).contains("must be UTF8"));
        }
        admin.execute(&format!("DROP DATABASE {name} WITH (FORCE)"));
    }
}

/// How many connections an API is made to have.
const MANY: u64 = 6;

/// All writes of a client.
fn writes(api: &Server, uid: &str) -> [tests::program::Answer; 4] {
    [
        api.post("/annotation", &json!({"data_product_uid": uid, "annotation_text": "x"})),
        api.post("/ingestnewmetadata", &json!({"execution_block": "eb-n-20240101-1", "x": 1})),
        api.post("/ingestnewdataproduct", &json!({"execution_block": "eb-a-20240101-0", "relativePathName": "eb-0"})),
        api.get("/reindexdataproducts"),
    ]
}

#[test]
fn a_database_that_is_read_only_is_told_as_that_and_written_to_when_it_no_longer_is() {
    let site = Site::new();
    site.products(2);
    let (indexer, api) = site.daemons.pair();
    let uid = api.search(&[])[0]["uid"].as_str().expect("a uid").to_owned();
    let name = site.database.name();
    let read_only = |yes| {
        site.database.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = {yes}"));
    };
    read_only("on");
    // It holds for connections that are made from now on.
    site.database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid()",
    );
    indexer.wait_for_status("the reason", |status| {
        status["waits_for"].as_str().is_some_and(|why| why.contains("PostgreSQL is read-only"))
    });
    tests::wait_for("searches", || (api.post("/dataproductsearch", &json!({})).status == 200).then_some(()));
    for _ in 0..3 {
        for answer in writes(&api, &uid) {
            assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{}", answer.json());
            let detail = answer.json()["detail"].clone();
            assert!(
                detail.as_str().is_some_and(|why| why.contains("PostgreSQL is read-only at the moment")),
                "{detail}"
            );
        }
    }
    assert_eq!(api.search(&[]).len(), 2);
    site.volume.product("late", "eb-z-20240101-1", "x: late");
    tests::wait_for("a line of the log", || indexer.log().contains("PostgreSQL is read-only").then_some(()));
    // The API has many connections of this time.
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let lock = site.database.lock("data_product");
    std::thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| api.post("/dataproductmetadata", &json!({"execution_block": "eb-a-20240101-0"})));
        }
        tests::wait_for("connections", || (site.database.value(waiting).as_u64() >= Some(MANY)).then_some(()));
        drop(lock);
    });
    // The connection of the test itself is of before.
    site.database.execute("BEGIN READ WRITE; COMMIT");
    read_only("off");
    wait_for_hits(&api, "x:late", 1);
    indexer.wait_for_state("holding the lease");
    // Whatever connections are left of before, one write that failed does for all of them.
    let note = json!({"data_product_uid": uid, "annotation_text": "x"});
    api.post("/annotation", &note);
    for _ in 0..MANY {
        let answer = api.post("/annotation", &note);
        assert!(answer.status < 300, "{}", answer.json());
    }
    for answer in writes(&api, &uid) {
        // A reindex that waits already is not taken a second time.
        assert!(
            answer.status < 300 || answer.status == 409,
            "{}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
}
