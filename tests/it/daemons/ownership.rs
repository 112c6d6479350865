//! A database that is shared with others: what is theirs stays as it is, and their code never runs as ours.

use super::setup::refused;
use std::io::Write;
use tests::postgres::{Database, Postgres};
use tests::program::Daemons;
use tests::volume::Volume;

/// A role that may make tables, in a database in which the program is a superuser, and its name.
fn neighbour() -> (Database, String) {
    let database = Postgres::shared().empty_database();
    let role = format!("neighbour_in_{}", database.name());
    database.execute(&format!("CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}"));
    (database, role)
}

fn leave(database: &Database, role: &str) {
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn relations_of_others_are_neither_renamed_nor_written_to() {
    for (made, name) in [
        ("CREATE TABLE document (a int); INSERT INTO document VALUES (1)", "document"),
        ("CREATE TABLE document AS SELECT 1 AS a; CREATE TABLE segment (b int)", "document"),
        ("CREATE VIEW who_indexes AS SELECT 1 AS a", "who_indexes"),
        // His code would run as whoever writes there.
        (
            "CREATE TABLE stolen (who text); \
             CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO stolen VALUES (current_user); RETURN NEW; END $$; \
             CREATE TABLE dpd_migrations (version bigint PRIMARY KEY, description text NOT NULL, \
             installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL, checksum bytea NOT NULL, \
             execution_time bigint NOT NULL); \
             CREATE TRIGGER steal BEFORE INSERT ON dpd_migrations FOR EACH ROW EXECUTE FUNCTION steal(); \
             GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC",
            "dpd_migrations",
        ),
    ] {
        let (volume, (database, role)) = (Volume::new(), neighbour());
        database.execute(&format!("SET ROLE {role}; {made}; RESET ROLE"));
        let tables = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class \
                      WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')";
        let before = database.value(tables);
        let daemons = Daemons::of(volume.path(), &database.url()).with("INDEXING_STATE_TABLE_NAME", "who_indexes");
        for arguments in [&["migrate"][..], &[]] {
            let said = refused(&daemons, "dpd-indexer", arguments);
            let last = said.lines().last().unwrap_or_default();
            for word in [&format!("public.{name}"), &role, "SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA"] {
                assert!(last.contains(word), "{word} in {last}");
            }
        }
        assert_eq!(database.value(tables), before);
        // Nor are they read by an API, which knows of no other name of the coordination table.
        if name != "who_indexes" {
            let mut api = daemons.api();
            // It is looked at as soon as somebody asks, who stays.
            let mut asked = api.connect();
            asked.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
            assert_eq!(api.ended().code(), Some(2), "{}", api.log());
            assert!(api.log().contains(&format!("public.{name}")), "{}", api.log());
        }
        if name == "dpd_migrations" {
            assert_eq!(database.value("SELECT count(*) FROM stolen"), 0);
        }
        // In a schema of its own it goes.
        let own = daemons.with("SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA", "own");
        let indexer = own.indexer();
        indexer.wait_for_state("holding the lease");
        drop(indexer);
        leave(&database, &role);
    }
}

#[test]
fn a_schema_in_which_others_may_make_tables_is_warned_of() {
    let (volume, (database, role)) = (Volume::new(), neighbour());
    let daemons = Daemons::of(volume.path(), &database.url());
    let indexer = daemons.indexer();
    indexer.wait_for_log("others may make tables in the schema public", 1);
    indexer.wait_for_log(&role, 1);
    database.execute(&format!("REVOKE CREATE ON SCHEMA public FROM {role}, PUBLIC"));
    indexer.wait_for_state("holding the lease");
    indexer.stop();
    let indexer = daemons.indexer();
    indexer.wait_for_state("holding the lease");
    assert!(!indexer.log().contains("others may make tables"), "{}", indexer.log());
    leave(&database, &role);
}

#[test]
fn tables_of_a_role_that_ours_is_a_member_of_are_ours() {
    let (volume, (database, role)) = (Volume::new(), neighbour());
    let member = format!("member_in_{}", database.name());
    database.execute(&format!("CREATE ROLE {member} LOGIN IN ROLE {role}"));
    // As an administrator has it made who hands it on.
    database.execute(&format!("SET ROLE {role}; CREATE TABLE annotation (old text); RESET ROLE"));
    let url = database.url().replace("postgres@", &format!("{member}@"));
    let indexer = Daemons::of(volume.path(), &url).with("DPD_FOREIGN_TABLES", "rename").indexer();
    indexer.wait_for_state("holding the lease");
    indexer.wait_for_log("it is annotation_before_0001 now", 1);
    drop(indexer);
    database.execute(&format!("DROP OWNED BY {member}; DROP ROLE {member}"));
    leave(&database, &role);
}

#[test]
fn every_table_is_known_to_be_ours() {
    let (volume, (database, role)) = (Volume::new(), neighbour());
    let daemons = Daemons::of(volume.path(), &database.url());
    drop(daemons.indexer().wait_for_state("holding the lease"));
    let tables = database.rows(
        "SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') \
         UNION SELECT 'product_number' ORDER BY 1",
    );
    // One after the other becomes somebody else's.
    for table in &tables {
        let name = table["name"].as_str().expect("a name");
        let kind = if name == "product_number" { "SEQUENCE" } else { "TABLE" };
        database.execute(&format!("ALTER {kind} {name} OWNER TO {role}"));
        let said = refused(&daemons, "dpd-indexer", &["migrate"]);
        assert!(said.contains(&format!("the relation public.{name} ")), "{said}");
        database.execute(&format!("ALTER {kind} {name} OWNER TO postgres"));
    }
    leave(&database, &role);
}
