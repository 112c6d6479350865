//! Programs that are configured badly, and databases that are not ready for them: what can be waited for is waited for, and
//! all of it is said.

use super::{Site, wait_for_hits};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Output;
use tests::postgres::{Database, Postgres};
use tests::program::{Daemons, Server, binary};
use tests::volume::Volume;

/// Runs a program that is expected to end.
pub(crate) fn run(daemons: &Daemons, program: &str, arguments: &[&str]) -> Output {
    // Ended if it does not: it is a daemon.
    let mut command = daemons.command("timeout");
    command.arg("60").arg(binary(program)).args(arguments).output().expect("its end")
}

/// The one line that a program which cannot work says, after that in which it says what is set where it came to that.
pub(crate) fn refused(daemons: &Daemons, program: &str, arguments: &[&str]) -> String {
    let output = run(daemons, program, arguments);
    let all = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{all}");
    let said: String =
        all.lines().filter(|line| !line.contains("INFO starting ")).map(|line| format!("{line}\n")).collect();
    assert!(said.starts_with(&format!("{program}: ")) && said.trim().lines().count() == 1, "{said}");
    said
}

fn migrate(daemons: &Daemons) -> String {
    let output = run(daemons, "dpd-indexer", &["migrate"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Waits until an API is not ready for this reason, which all that needs the database tells as well.
fn unready(api: &Server, reason: &str) {
    tests::wait_for(reason, || api.get("/readyz").json()["detail"].as_str()?.contains(reason).then_some(()));
    let metadata = api.post("/dataproductmetadata", &json!({"execution_block": "eb"}));
    for answer in [api.get("/readyz"), api.post("/dataproductsearch", &json!({})), metadata] {
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
        let detail = answer.json()["detail"].clone();
        assert!(detail.as_str().is_some_and(|detail| detail.contains(reason)), "{detail}");
    }
    assert_eq!(api.get("/livez").status, 200);
    let store = api.status()["metadata_store_status"].clone();
    assert_eq!(
        (&store["running"], &store["db_status"]),
        (&json!(false), &json!({"configured": true, "running": false}))
    );
    assert!(store["error"].as_str().is_some_and(|error| error.contains(reason)), "{store}");
}

/// Waits until an indexer waits for this.
fn waits(indexer: &Server, reason: &str) {
    let is_it = |status: &Value| status["waits_for"].as_str().is_some_and(|waits| waits.contains(reason));
    let status = indexer.wait_for_status(reason, is_it);
    assert_eq!(status["state"], "waiting");
    let answer = indexer.get("/readyz");
    assert_eq!((answer.status, answer.json()["detail"].clone()), (503, status["waits_for"].clone()));
    assert_eq!(indexer.get("/livez").status, 200);
}

#[test]
fn what_cannot_be_started_says_why_in_one_line() {
    let volume = Volume::new();
    let url = "postgres://me:geheim@127.0.0.1:1/dpd";
    let daemons = Daemons::of(volume.path(), url);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    let (indexer, api, both) = (&["dpd-indexer"][..], &["dpd-api"][..], &["dpd-indexer", "dpd-api"][..]);
    for (programs, variable, value, says) in [
        (both, "DATABASE_URL", "", "`dpd serve"),
        (both, "DATABASE_URL", "mysql://me:geheim@127.0.0.1/dpd", "postgres://USER"),
        (both, "PERSISTENT_STORAGE_PATH", "", "the volume's folder"),
        (both, "SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", "a-b", "'a-b'"),
        (both, "INDEXING_STATE_TABLE_NAME", "x;", "'x;'"),
        (both, "DPD_FOREIGN_TABLES", "drop", "refuse or rename"),
        (both, "DPD_POSTGRESQL_CONNECTIONS", "1", "from 3 to 1000"),
        (both, "INDEXING_HEARTBEAT_STALE_SECONDS", "1", "from 2 to"),
        (both, "RUST_LOG", "a=b=c", "RUST_LOG"),
        (indexer, "DPD_INDEXER_LISTEN", "nonsense", "ADDRESS:PORT"),
        (indexer, "DPD_INDEXER_LISTEN", &taken, "cannot listen"),
        (api, "DPD_API_LISTEN", "nonsense", "ADDRESS:PORT"),
        (api, "DPD_API_LISTEN", &taken, "cannot listen"),
        (api, "DATE_FORMAT", "%Y", "DATE_FORMAT"),
    ] {
        for program in programs {
            let said = refused(&daemons.with(variable, value), program, &[]);
            assert!(said.contains(variable) && said.contains(says) && !said.contains("geheim"), "{said}");
        }
    }
    assert!(refused(&daemons.with("DATABASE_URL", ""), "dpd-indexer", &["migrate"]).contains("DATABASE_URL"));
}

#[test]
fn an_api_waits_for_tables_and_for_an_index() {
    let (volume, database) = (Volume::new(), Postgres::shared().empty_database());
    let daemons = Daemons::of(volume.path(), &database.url());
    volume.product("eb-1", "eb-a-20240101-1", "");
    let api = daemons.api();
    unready(&api, "`dpd-indexer migrate`");
    assert_eq!(migrate(&daemons).trim(), "the database's tables are up to date now");
    unready(&api, "is dpd-indexer running");
    assert_eq!(migrate(&daemons).trim(), "the database's tables were up to date");
    let _indexer = daemons.indexer();
    api.wait_for_index();
    assert_eq!(api.get("/readyz").status, 200);
    assert_eq!(api.folders(), ["eb-1"]);
}

#[test]
fn an_older_program_waits_for_newer_tables_to_go() {
    let site = Site::new();
    site.products(1);
    site.database.execute(
        "INSERT INTO dpd_migrations (version, description, success, checksum, execution_time) \
         VALUES (4711, 'of the future', true, '', 0)",
    );
    let (indexer, api) = (site.daemons.indexer(), site.daemons.api());
    unready(&api, "use a newer program");
    waits(&indexer, "use a newer program");
    assert!(refused(&site.daemons, "dpd-indexer", &["migrate"]).contains("version 4711"));
    assert_eq!(site.database.value("SELECT count(*) FROM dpd_indexing_state"), 0);
    site.database.execute("DELETE FROM dpd_migrations WHERE version = 4711");
    api.wait_for_index();
    assert_eq!((api.get("/readyz").status, indexer.get("/readyz").status), (200, 200));
    assert_eq!(api.folders(), ["eb-0"]);
}

#[test]
fn the_schema_is_made_where_it_is_missing() {
    let (volume, database) = (Volume::new(), Postgres::shared().empty_database());
    volume.product("eb-1", "eb-a-20240101-1", "x: y");
    // Configured part by part, as the deployments of the old service are.
    let (host, port) = database.host_port().split_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).expect("a port");
    let daemons = Daemons::of(volume.path(), "")
        .with("SKA_DATAPRODUCT_API_POSTGRESQL_HOST", host)
        .with("SKA_DATAPRODUCT_API_POSTGRESQL_PORT", port)
        .with("SKA_DATAPRODUCT_API_POSTGRESQL_DBNAME", database.name())
        .with("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", "Sdp_dpd");
    let (_indexer, api) = daemons.pair();
    wait_for_hits(&api, "x:y", 1);
    assert_eq!(
        api.post(
            "/annotation",
            &json!({
        "data_product_uid": api.search(&[])[0]["uid"], "annotation_text": "here"})
        )
        .status,
        201
    );
    let tables = |schema: &str| {
        database.value(&format!("SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'")).as_i64()
    };
    assert!(tables("Sdp_dpd") >= Some(10));
    assert_eq!(tables("public"), Some(0));
    assert_eq!(database.value("SELECT count(*) FROM \"Sdp_dpd\".annotation"), 1);
}

/// A role that may log in and no more, which before PostgreSQL 15 has to be taken from it.
fn guest(database: &Database) -> String {
    let role = format!("guest_of_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC"));
    role
}

#[test]
fn a_role_that_may_not_make_tables_is_told_so() {
    let (volume, database) = (Volume::new(), Postgres::shared().empty_database());
    let role = guest(&database);
    let url = database.url().replace("postgres@", &format!("{role}@"));
    let daemons = Daemons::of(volume.path(), &url);
    let said = refused(&daemons, "dpd-indexer", &["migrate"]);
    assert!(said.contains("permission denied for schema public"), "{said}");
    let indexer = daemons.indexer();
    waits(&indexer, "permission denied for schema public");
    let elsewhere = daemons.with("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", "elsewhere");
    let other = elsewhere.indexer();
    waits(&other, "let an administrator make it, or set SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA");
    // As soon as somebody sees to it, they go on.
    database.execute(&format!("GRANT CREATE ON SCHEMA public TO {role}; CREATE SCHEMA elsewhere AUTHORIZATION {role}"));
    for (indexer, daemons) in [(&indexer, &daemons), (&other, &elsewhere)] {
        indexer.wait_for_state("holding the lease");
        let api = daemons.api();
        api.wait_for_index();
        assert_eq!(api.get("/readyz").status, 200);
    }
    drop((indexer, other));
    // It owns what it made; with that gone it can go as well.
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn foreign_tables_of_our_names_are_kept() {
    let (volume, database) = (Volume::new(), Postgres::shared().empty_database());
    volume.product("eb-1", "eb-a-20240101-1", "");
    database.execute(
        "CREATE TABLE dpd_indexing_state (volume_prefix text PRIMARY KEY, indexed_by text); \
         INSERT INTO dpd_indexing_state VALUES ('dpd_000000000000', 'the old service'); \
         CREATE TABLE annotation (id serial PRIMARY KEY, annotation_text text UNIQUE); \
         INSERT INTO annotation (annotation_text) VALUES ('old'); \
         CREATE VIEW who AS SELECT indexed_by FROM dpd_indexing_state",
    );
    let daemons = Daemons::of(volume.path(), &database.url()).with("DPD_FOREIGN_TABLES", "rename");
    let (indexer, api) = daemons.pair();
    assert_eq!(api.folders(), ["eb-1"]);
    let kept = database.rows("SELECT * FROM dpd_indexing_state_before_0001");
    assert_eq!(kept, [json!({"volume_prefix": "dpd_000000000000", "indexed_by": "the old service"})]);
    assert_eq!(database.value("SELECT indexed_by FROM who"), "the old service");
    assert_eq!(database.value("SELECT annotation_text FROM annotation_before_0001"), "old");
    assert_eq!(database.value("SELECT count(*) FROM dpd_indexing_state"), 1);
    indexer.wait_for_log("it is dpd_indexing_state_before_0001 now", 1);
    // Once is enough.
    indexer.stop();
    let _indexer = daemons.indexer();
    api.wait_for_status("the next holder", |status| status["indexing"]["coordination_state"]["epoch"] == 2);
    assert_eq!(database.value("SELECT count(*) FROM pg_tables WHERE tablename LIKE '%before%'"), 2);
}

#[test]
fn the_coordination_table_can_be_read_under_another_name() {
    let site = Site::new().with("INDEXING_STATE_TABLE_NAME", "who_indexes");
    site.products(1);
    for epoch in [1, 2] {
        let (indexer, api) = site.daemons.pair();
        let state = api.status()["indexing"]["coordination_state"].clone();
        assert_eq!(state["epoch"], epoch);
        let rows = site.database.rows("SELECT volume_prefix, indexed_by, files_indexed FROM who_indexes");
        assert_eq!(
            rows,
            [json!({"volume_prefix": state["volume_prefix"], "indexed_by": state["indexed_by"], "files_indexed": 1})]
        );
        indexer.stop();
    }
    // A name that is taken is not taken away from whoever has it.
    site.database.execute("CREATE TABLE taken (x int)");
    let indexer = site.daemons.with("INDEXING_STATE_TABLE_NAME", "taken").indexer();
    waits(&indexer, "INDEXING_STATE_TABLE_NAME: taken");
}
