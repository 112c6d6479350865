//! `dpd-indexer migrate --check`, and what becomes of tables that were there before ours.

use super::ended;
use crate::daemons::setup::refused;
use tests::postgres::{Database, Postgres};
use tests::program::Daemons;
use tests::volume::Volume;

/// All relations outside of the catalogues.
fn relations(database: &Database) -> String {
    let all = "SELECT coalesce(string_agg(relnamespace::regnamespace || '.' || relname, ' ' ORDER BY relname), '') \
               FROM pg_class WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)'";
    database.value(all).as_str().expect("names").to_owned()
}

/// Has it looked what a migration would do, which changes nothing.
fn check(daemons: &Daemons, database: &Database) -> (i32, String) {
    let before = relations(database);
    let (code, out, error) = ended(daemons, &["migrate", "--check"]);
    assert_eq!(relations(database), before, "{out}");
    (code, format!("{out}{error}"))
}

#[test]
fn what_is_to_be_done_is_told_and_not_done() {
    let (volume, database) = (Volume::new(), Postgres::shared().empty_database());
    let daemons = Daemons::of(volume.path(), &database.url()).with("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", "own");
    let (code, said) = check(&daemons, &database);
    assert!(code == 3 && said.contains("the schema own would be made"), "{code} {said}");
    assert!(
        said.contains("would be applied: 1 The index of any number of volumes") && said.contains("applied: 11 "),
        "{said}"
    );
    assert_eq!(ended(&daemons, &["migrate"]).0, 0);
    let (code, said) = check(&daemons, &database);
    assert!(
        code == 0 && said.contains("nothing is to be done") && said.contains("size: data_product"),
        "{code} {said}"
    );
    // A view that is configured is something to do as well.
    let (code, said) = check(&daemons.with("INDEXING_STATE_TABLE_NAME", "who"), &database);
    assert!(code == 3 && said.contains("the view who"), "{code} {said}");
    // A release before had no more than these.
    database.execute("DROP INDEX own.key_count_key; DELETE FROM own.dpd_migrations WHERE version >= 11");
    let (code, said) = check(&daemons, &database);
    assert!(
        code == 3 && said.contains("are of version 10, and ") && said.contains("applied: 11 Keys that no"),
        "{said}"
    );
    assert!(said.contains("goes through key_count"), "{said}");
    assert_eq!(ended(&daemons, &["migrate"]).0, 0);
    assert_eq!(check(&daemons, &database).0, 0);

    database.execute(
        "INSERT INTO own.dpd_migrations (version, description, success, checksum, execution_time) \
         VALUES (4711, 'of the future', true, '', 0)",
    );
    let (code, said) = check(&daemons, &database);
    assert!(code == 2 && said.contains("use a newer program"), "{code} {said}");
    let nobody = daemons.with("DATABASE_URL", "postgres://postgres@127.0.0.1:1/dpd");
    let (code, said) = check(&nobody, &database);
    assert!(code == 2 && said.contains("127.0.0.1:1"), "{code} {said}");
}

#[test]
fn tables_that_the_old_service_may_use_are_not_renamed_unless_that_is_said() {
    let (volume, database) = (Volume::new(), Postgres::shared().empty_database());
    database.execute(
        "CREATE SCHEMA sdp; CREATE TABLE sdp.dpd_indexing_state (volume_prefix text PRIMARY KEY, indexed_by text); \
         INSERT INTO sdp.dpd_indexing_state VALUES ('dpd_000000000000', 'the old service'); \
         CREATE TABLE sdp.segment (x int)",
    );
    let schema = "SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA";
    let daemons = Daemons::of(volume.path(), &database.url()).with(schema, "sdp");
    let before = relations(&database);
    let (code, said) = check(&daemons, &database);
    for words in
        ["in the way: sdp.dpd_indexing_state", "to dpd_indexing_state_before_0001", "in the way: sdp.segment", schema]
    {
        assert!(code == 3 && said.contains(words), "{words}: {code} {said}");
    }
    for arguments in [&["migrate"][..], &[]] {
        let said = refused(&daemons, "dpd-indexer", arguments);
        for words in ["sdp.dpd_indexing_state", "1 more", schema, "sdp_index", "DPD_FOREIGN_TABLES=rename"] {
            assert!(said.lines().last().is_some_and(|line| line.contains(words)), "{words}: {said}");
        }
    }
    assert_eq!(relations(&database), before);
    // The documented way: a schema beside it.
    let beside = daemons.with(schema, "sdp_index");
    beside.indexer().wait_for_state("holding the lease");
    assert_eq!(database.value("SELECT indexed_by FROM sdp.dpd_indexing_state"), "the old service");
    assert_eq!(check(&beside, &database).0, 0);
    // And the other one.
    let renaming = daemons.with("DPD_FOREIGN_TABLES", "rename");
    let (code, said) = check(&renaming, &database);
    assert!(
        code == 3 && said.contains("would be renamed: sdp.dpd_indexing_state to dpd_indexing_state_before_0001"),
        "{said}"
    );
    assert_eq!(ended(&renaming, &["migrate"]).0, 0);
    assert_eq!(database.value("SELECT indexed_by FROM sdp.dpd_indexing_state_before_0001"), "the old service");
    assert_eq!(database.value("SELECT count(*) FROM sdp.segment_before_0003"), 0);
    // What is ours by now is not taken for another's.
    for own in [daemons, renaming] {
        assert_eq!((ended(&own, &["migrate"]).0, check(&own, &database).0), (0, 0));
    }
}

#[test]
fn what_only_an_administrator_can_do_is_told() {
    let (volume, database) = (Volume::new(), Postgres::shared().empty_database());
    let role = format!("guest_in_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC"));
    let url = database.url().replace("postgres@", &format!("{role}@"));
    let daemons = Daemons::of(volume.path(), &url);
    for (schema, says) in [("public", "may not make tables in it"), ("own", "may not make it")] {
        let (code, said) = check(&daemons.with("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", schema), &database);
        assert!(code == 3 && said.contains("in the way: ") && said.contains(says), "{schema}: {code} {said}");
    }
    database.execute(&format!("CREATE SCHEMA own AUTHORIZATION {role}; CREATE TABLE own.document (a int)"));
    let own = daemons.with("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", "own");
    let (code, said) = check(&own, &database);
    assert!(code == 3 && said.contains("own.document is postgres's"), "{code} {said}");
    database.execute("DROP TABLE own.document");
    assert_eq!((check(&own, &database).0, ended(&own, &["migrate"]).0, check(&own, &database).0), (3, 0, 0));
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
