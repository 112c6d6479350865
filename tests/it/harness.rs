//! The means by which other tests make PostgreSQL and the network fail: they must do what they say.

use sqlx::{Connection, PgConnection};
use std::time::Duration;
use tests::postgres::{Database, Postgres};
use tests::proxy::Proxy;

/// How long an answer is waited for that must not come.
const SILENCE: Duration = Duration::from_millis(100);

fn with_table(server: &Postgres) -> Database {
    let database = server.empty_database();
    database.execute("CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO t VALUES (1)");
    database
}

async fn connect(database: &Database, proxy: &Proxy) -> sqlx::Result<PgConnection> {
    PgConnection::connect(&database.url_through(proxy.port())).await
}

async fn insert(connection: &mut PgConnection, n: i32) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::query("INSERT INTO t VALUES ($1)").bind(n).execute(&mut *transaction).await?;
    transaction.commit().await
}

#[test]
fn rows_are_objects_and_databases_are_apart() {
    let (one, other) = (with_table(Postgres::shared()), with_table(Postgres::shared()));
    one.execute("INSERT INTO t VALUES (2)");
    assert_eq!(
        one.rows("SELECT n, 'x' AS x FROM t ORDER BY n -- all"),
        [serde_json::json!({"n": 1, "x": "x"}), serde_json::json!({"n": 2, "x": "x"})]
    );
    assert_eq!(other.value("SELECT count(*) FROM t;"), 1);
    assert_eq!(one.value("SELECT NULL AS nothing"), serde_json::Value::Null);
}

#[test]
fn a_dropped_database_is_gone() {
    let name = with_table(Postgres::shared()).name().to_owned();
    let names = Postgres::shared().empty_database().rows("SELECT datname FROM pg_database");
    assert!(!names.iter().any(|row| row["datname"] == *name), "{name} in {names:?}");
}

#[test]
fn a_killed_server_comes_back_with_what_was_committed() {
    let server = Postgres::start();
    let database = with_table(&server);
    database.execute("BEGIN; INSERT INTO t VALUES (2)");
    server.kill();
    server.restart();
    assert_eq!(database.value("SELECT count(*) FROM t"), 1);
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    let server = Postgres::start();
    let database = with_table(&server);
    let mut connection = PgConnection::connect(&database.url()).await.expect("a connection");
    server.pause();
    {
        let mut ping = std::pin::pin!(connection.ping());
        assert!(tokio::time::timeout(SILENCE, &mut ping).await.is_err());
        server.resume();
        ping.await.expect("an answer");
    }
    server.pause();
    server.restart();
    assert_eq!(database.value("SELECT count(*) FROM t"), 1);
}

#[tokio::test]
async fn a_proxy_cuts_and_refuses() {
    let database = with_table(Postgres::shared());
    let proxy = Proxy::to(Postgres::shared().port());
    let mut connection = connect(&database, &proxy).await.expect("a connection");
    insert(&mut connection, 2).await.expect("a row");
    proxy.cut();
    assert_eq!(proxy.cuts(), 1);
    let error = connection.ping().await.expect_err("no connection");
    assert!(error.to_string().contains("reset"), "{error}");

    let mut connection = connect(&database, &proxy).await.expect("a connection");
    proxy.refuse(true);
    connection.ping().await.expect_err("no connection");
    assert!(connect(&database, &proxy).await.is_err());
    proxy.refuse(false);
    connect(&database, &proxy).await.expect("a connection").ping().await.expect("an answer");
    assert_eq!(proxy.cuts(), 3);
}

#[tokio::test]
async fn a_proxy_that_hangs_loses_nothing() {
    let database = with_table(Postgres::shared());
    let proxy = Proxy::to(Postgres::shared().port());
    let mut connection = connect(&database, &proxy).await.expect("a connection");
    proxy.hang(true);
    let mut inserting = std::pin::pin!(insert(&mut connection, 2));
    assert!(tokio::time::timeout(SILENCE, &mut inserting).await.is_err());
    proxy.hang(false);
    inserting.await.expect("a row");
    // More than all buffers on the way hold.
    let mut connection = connect(&database, &proxy).await.expect("a connection");
    let long = "x".repeat(20 << 20);
    let echo: String = sqlx::query_scalar("SELECT $1").bind(&long).fetch_one(&mut connection).await.expect("an echo");
    assert!(echo == long);
    assert_eq!(proxy.cuts(), 0);
}

#[tokio::test]
async fn a_proxy_cuts_after_a_commit() {
    let database = with_table(Postgres::shared());
    let proxy = Proxy::to(Postgres::shared().port());
    let mut connection = connect(&database, &proxy).await.expect("a connection");
    proxy.cut_at_commit(2);
    // 1 is there, which is found out at the end: no commit, so no cut.
    let error = insert(&mut connection, 1).await.expect_err("a double");
    assert!(error.to_string().contains("duplicate"), "{error}");
    assert_eq!(proxy.cuts(), 0);
    insert(&mut connection, 2).await.expect_err("no answer");
    assert_eq!((proxy.cuts(), database.value("SELECT count(*) FROM t WHERE n = 2")), (1, 1.into()));

    // As a prepared statement, which does it when it is executed and not when it is prepared.
    let mut connection = connect(&database, &proxy).await.expect("a connection");
    sqlx::raw_sql("BEGIN; INSERT INTO t VALUES (3)").execute(&mut connection).await.expect("a row");
    sqlx::query("COMMIT").execute(&mut connection).await.expect_err("no answer");
    assert_eq!((proxy.cuts(), database.value("SELECT count(*) FROM t WHERE n = 3")), (2, 1.into()));
    let mut connection = connect(&database, &proxy).await.expect("a connection");
    insert(&mut connection, 4).await.expect("the third time");
}

#[tokio::test]
async fn a_proxy_cuts_before_a_commit() {
    let database = with_table(Postgres::shared());
    let proxy = Proxy::to(Postgres::shared().port());
    let mut connection = connect(&database, &proxy).await.expect("a connection");
    proxy.cut_before_commit(1);
    insert(&mut connection, 2).await.expect_err("no connection");
    assert_eq!((proxy.cuts(), database.value("SELECT count(*) FROM t")), (1, 1.into()));
    let mut connection = connect(&database, &proxy).await.expect("a connection");
    insert(&mut connection, 2).await.expect("the second time");
    assert_eq!(database.value("SELECT count(*) FROM t"), 2);
}
