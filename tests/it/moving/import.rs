//! `dpd-indexer import-annotations`: the old service's tables hold anything, stay as they are, and lose nothing.

use super::ended;
use crate::daemons::Site;
use serde_json::{Value, json};
use tests::postgres::Postgres;
use tests::program::Server;

/// The old service's table, as its source of March 2025 makes it.
fn table(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (id serial PRIMARY KEY, uid char(64), annotation_text text, \
         user_principal_name varchar(255), timestamp_created timestamp, timestamp_modified timestamp);"
    )
}

/// A site whose first product is known, with a schema `old` for the old service's tables.
fn site() -> (Site, Server, Server, String) {
    let site = Site::new();
    site.products(2);
    let (indexer, api) = site.daemons.pair();
    let uid = api.search(&["n:0"])[0]["uid"].as_str().expect("a uid").to_owned();
    site.database.execute("CREATE SCHEMA old");
    (site, indexer, api, uid)
}

/// Imports; the exit code and what was answered.
fn import(site: &Site, arguments: &[&str]) -> (i32, String) {
    let (code, out, error) = ended(&site.daemons, &[&["import-annotations"], arguments].concat());
    (code, format!("{out}{error}"))
}

/// The count that stands behind some words.
fn count(said: &str, what: &str) -> u64 {
    let line = said.lines().find(|line| line.trim_start().starts_with(what));
    let line = line.unwrap_or_else(|| panic!("no '{what}' in {said}"));
    line.split_whitespace().last().and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// All that there is of annotations.
fn all(site: &Site) -> Vec<Value> {
    site.database.rows("SELECT *, encode(value, 'hex') AS hex FROM annotation ORDER BY id")
}

fn found_by(api: &Server, item: &Value) -> usize {
    let answer = api.filter(&json!({"filterModel": {"items": [item]}}));
    answer["data"].as_array().expect("rows").len()
}

#[test]
fn annotations_are_taken_over_with_their_ids_and_once() {
    let (site, _indexer, api, uid) = site();
    let gone = "6a11ddaa-6b45-6759-47e7-a5abd5105b0e";
    let database = site.database.name();
    site.database.execute(&format!(
        "ALTER DATABASE {database} SET timezone TO 'Europe/Berlin'; {} \
         INSERT INTO old.dpd_annotations_table VALUES \
         (3, '{uid}', 'Ärger mit İ und ẞ', 'a@b', '2024-07-01 12:00:00.25', '2024-07-01 12:30'), \
         (5, '{uid}', 'nobody, never', NULL, NULL, NULL), \
         (7, 'eb-m005-20231031-12345', 'of no product', 'a@b', '2024-01-01', '2024-01-01'), \
         (8, '{gone}', 'product gone', 'a@b', 'infinity', '2024-01-01 12:00'), \
         (9, '{uid}', '2023-10-31', ' ', '2024-01-01', NULL)",
        table("old.dpd_annotations_table")
    ));
    let old = "SELECT string_agg(t::text, ' ' ORDER BY id) FROM old.dpd_annotations_table t";
    let before = site.database.value(old);
    let updated = |api: &Server| api.status()["metadata_store_status"]["last_metadata_update_time"].clone();
    let unchanged = updated(&api);
    let (code, said) = import(&site, &["--dry-run"]);
    assert_eq!((code, count(&said, "found"), count(&said, "would be imported")), (0, 5, 4), "{said}");
    assert!(said.contains("nothing was changed") && all(&site).is_empty() && updated(&api) == unchanged);

    let (code, said) = import(&site, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("old.dpd_annotations_table") && said.contains("read as Europe/Berlin"), "{said}");
    for (what, counted) in [
        ("imported", 4),
        ("there already", 0),
        ("unusable", 1),
        ("the uid is no UUID", 1),
        ("product unknown", 1),
        ("without an author", 2),
        ("without a time", 1),
    ] {
        assert_eq!(count(&said, what), counted, "{what}: {said}");
    }
    let listed = api.get_json(&format!("/annotations/{uid}"));
    let shown = |annotation: &Value| {
        let fields =
            ["annotation_id", "annotation_text", "user_principal_name", "timestamp_created", "timestamp_modified"];
        Value::from(fields.map(|field| annotation[field].clone()).to_vec())
    };
    let shown: Vec<Value> = listed.as_array().expect("a list").iter().map(shown).collect();
    assert_eq!(
        shown,
        [
            json!([
                5,
                "nobody, never",
                "anonymous",
                "1970-01-01T00:00:00.000000+00:00",
                "1970-01-01T00:00:00.000000+00:00"
            ]),
            json!([
                9,
                "2023-10-31",
                "anonymous",
                "2023-12-31T23:00:00.000000+00:00",
                "2023-12-31T23:00:00.000000+00:00"
            ]),
            json!([
                3,
                "Ärger mit İ und ẞ",
                "a@b",
                "2024-07-01T10:00:00.250000+00:00",
                "2024-07-01T10:30:00.000000+00:00"
            ]),
        ]
    );
    // What cannot be told of the first time is told of the second.
    let at_all = "SELECT timestamp_created::text FROM annotation WHERE id = 8";
    assert_eq!(site.database.value(at_all), "2024-01-01 11:00:00+00");
    // They are found as if the API had taken them.
    for (operator, value) in [("contains", "ärger MIT i̇"), ("equals", "2023-10-31"), ("is", "2023-10-31")] {
        let item = json!({"field": "annotation", "operator": operator, "value": value});
        assert_eq!(found_by(&api, &item), 1, "{item}");
    }
    assert_ne!(updated(&api), unchanged);
    let imported = all(&site);
    let (unchanged, (code, said)) = (updated(&api), import(&site, &[]));
    assert_eq!((code, count(&said, "imported"), count(&said, "there already")), (0, 0, 4), "{said}");
    assert!(all(&site) == imported && updated(&api) == unchanged);
    assert_eq!(site.database.value(old), before);
    // The next one is nobody's that the old service may still write.
    assert_eq!(api.post("/annotation", &json!({"data_product_uid": uid, "annotation_text": "new"})).status, 201);
    let next = site.database.value("SELECT max(id) FROM annotation").as_i64().expect("a number");
    assert!(next > 9, "{next}");
    // A text is kept as the API keeps it, byte for byte.
    assert_eq!(
        api.post("/annotation", &json!({"data_product_uid": uid, "annotation_text": "Ärger mit İ und ẞ"})).status,
        201
    );
    assert_eq!(site.database.value("SELECT count(DISTINCT value) FROM annotation WHERE annotation_text ~ 'rger'"), 1);
}

#[test]
fn what_is_written_meanwhile_is_taken_over_the_next_time() {
    let (site, _indexer, api, uid) = site();
    let execute = |sql: &str| site.database.execute(sql);
    execute(&format!(
        "{} INSERT INTO old.data_products_annotations_v2 (uid, annotation_text, user_principal_name, timestamp_created, \
         timestamp_modified) SELECT '{uid}', 'text ' || n, 'a@b', '2024-01-01', '2024-01-01' FROM generate_series(1, 3) n",
        table("old.data_products_annotations_v2")
    ));
    let arguments = ["--source-timezone", "utc"];
    let (_, said) = import(&site, &arguments);
    assert!(count(&said, "imported") == 3 && said.contains("read as UTC (as given)"), "{said}");
    // Changed here, changed there and then, and new.
    site.database.execute("UPDATE annotation SET user_principal_name = 'anonymous' WHERE id = 1");
    assert_eq!(api.post("/annotation", &json!({"annotation_id": 1, "annotation_text": "ours"})).status, 200);
    execute(
        "UPDATE old.data_products_annotations_v2 SET annotation_text = 'of 2', \
         user_principal_name = 'who edited', timestamp_modified = '2024-02-01' WHERE id = 2; \
         UPDATE old.data_products_annotations_v2 SET annotation_text = 'of 1', timestamp_modified = '2024-02-01' WHERE id = 1",
    );
    execute(&format!(
        "INSERT INTO old.data_products_annotations_v2 VALUES (4, '{uid}', 'of 4', 'a@b', '2024-02-01', '2024-02-01')"
    ));
    let (code, said) = import(&site, &arguments);
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        (count(&said, "imported"), count(&said, "there already, and"), count(&said, "there already  ")),
        (1, 1, 2)
    );
    let texts = || site.database.value("SELECT string_agg(annotation_text, ',' ORDER BY id) FROM annotation");
    assert_eq!(texts(), "ours,of 2,text 3,of 4");
    // There whoever edits becomes the author.
    assert_eq!(site.database.value("SELECT user_principal_name FROM annotation WHERE id = 2"), "who edited");
    let item = json!({"field": "annotation", "operator": "contains", "value": "OF 2"});
    assert_eq!(found_by(&api, &item), 1);

    // Somebody was given the number here: that is said, and the way out.
    execute(&format!(
        "INSERT INTO annotation (id, volume_prefix, data_product_uid, annotation_text, user_principal_name, value) \
         OVERRIDING SYSTEM VALUE SELECT 5, volume_prefix, data_product_uid, 'another', 'x', 'another' FROM annotation WHERE id = 4; \
         INSERT INTO old.data_products_annotations_v2 VALUES (5, '{uid}', 'of 5', 'b@c', '2024-03-01', '2024-03-01')"
    ));
    for _ in 0..2 {
        let (code, said) = import(&site, &arguments);
        assert!(code == 3 && said.contains("--new-ids"), "{code} {said}");
        assert_eq!(count(&said, "left out"), 1, "{said}");
    }
    for renumbered in [1, 0] {
        let (code, said) = import(&site, &["--new-ids", "--source-timezone", "UTC"]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(said.contains("under a new id"), renumbered == 1, "{said}");
        assert_eq!(site.database.value("SELECT count(*) FROM annotation WHERE annotation_text = 'of 5'"), 1);
    }
    assert_eq!(texts(), "ours,of 2,text 3,of 4,another,of 5");
    // The time zone was another than was thought: times are set right, and nothing is doubled.
    for changed in [true, false] {
        let (_, said) = import(&site, &["--source-timezone", "Asia/Tokyo"]);
        assert_eq!((count(&said, "imported"), said.contains("and set right")), (0, changed), "{said}");
        assert_eq!(site.database.value("SELECT count(*) FROM annotation"), 6);
        let created = "SELECT timestamp_created::text FROM annotation WHERE id = 3";
        assert_eq!(site.database.value(created), "2023-12-31 15:00:00+00");
    }
    // Not by what is merely likely.
    let (_, said) = import(&site, &[]);
    assert!(!said.contains("and set right"), "{said}");
}

#[test]
fn the_time_zone_is_the_one_that_the_old_services_sessions_had() {
    let (site, _indexer, _api, uid) = site();
    let database = site.database.name();
    let role = format!("owner_in_{database}");
    site.database.execute(&format!(
        "CREATE ROLE {role}; GRANT ALL ON SCHEMA old TO {role}; {} ALTER TABLE old.dpd_annotations_table OWNER TO {role}; \
         INSERT INTO old.dpd_annotations_table (uid, annotation_text) VALUES ('{uid}', 'x')",
        table("old.dpd_annotations_table")
    ));
    for (set, zone) in [
        (String::new(), None),
        (format!("ALTER DATABASE {database} SET timezone TO 'Europe/Rome'"), Some("Europe/Rome (as the database")),
        (format!("ALTER ROLE {role} SET TimeZone TO 'Africa/Cairo'"), Some("Africa/Cairo")),
        (format!("ALTER ROLE {role} IN DATABASE {database} SET timezone TO 'Asia/Tokyo'"), Some("Asia/Tokyo")),
    ] {
        site.database.execute(&format!("{set};"));
        let (code, said) = import(&site, &["--dry-run"]);
        assert!(code == 0 && zone.is_none_or(|zone| said.contains(&format!("read as {zone}"))), "{set}: {said}");
    }
    site.database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    // One whose server was told when it was started.
    let server = Postgres::start_with(&["timezone=Europe/London"]);
    let site = Site::on(server.database());
    site.products(1);
    drop(site.daemons.pair());
    site.database.execute(&table("dpd_annotations_table"));
    let (code, said) = import(&site, &["--dry-run"]);
    assert!(code == 0 && said.contains("read as Europe/London (as the server was started with)"), "{said}");
}

#[test]
fn many_rows_are_taken_over_in_batches_and_by_any_name() {
    let (site, _indexer, api, uid) = site();
    let prefix = site.database.value("SELECT volume_prefix FROM dpd_indexing_state");
    let own = format!("old.{}_annotations", prefix.as_str().expect("a prefix"));
    // Without a key, so that a number may occur twice; and an earlier release's table has some of the same.
    site.database.execute(&format!(
        "CREATE TABLE {own} (id int, uid uuid, annotation_text text, timestamp_created timestamptz); \
         INSERT INTO {own} SELECT n, '{uid}', 'text ' || n, '2024-01-01 00:00+00' FROM generate_series(1, 1200) n; \
         INSERT INTO {own} VALUES (1, '{uid}', 'again', NULL), (NULL, '{uid}', 'no id', NULL); \
         {} ALTER TABLE old.data_products_annotations_v1 RENAME uid TO uuid; \
         INSERT INTO old.data_products_annotations_v1 VALUES \
         (2001, '{uid}', 'text 7', NULL, '2024-01-01', NULL), (2002, '{uid}', 'only there', NULL, '2024-01-01', NULL); \
         CREATE TABLE old.dpd_000000000000_annotations AS SELECT * FROM {own}",
        table("old.data_products_annotations_v1"),
    ));
    let (code, said) = import(&site, &["--source-timezone", "UTC"]);
    assert_eq!(code, 0, "{said}");
    let (first, second) =
        said.split_at(said.find("2 annotations in old.data_products_annotations_v1").expect("the second"));
    assert_eq!((count(first, "imported"), count(first, "unusable")), (1200, 2), "{said}");
    assert!(first.contains("another row has the same id") && first.contains("without id"), "{said}");
    assert_eq!((count(second, "imported"), count(second, "there already")), (1, 1), "{said}");
    assert!(!said.contains("dpd_000000000000"), "another volume's: {said}");
    assert_eq!(api.get_json(&format!("/annotations/{uid}")).as_array().map(Vec::len), Some(1201));
}

#[test]
fn an_import_that_breaks_off_is_gone_on_with() {
    let (site, _indexer, api, uid) = site();
    site.database.execute(&format!(
        "{} INSERT INTO old.dpd_annotations_table SELECT n, '{uid}', 'text ' || n, 'a@b', '2024-01-01', '2024-01-01' \
         FROM generate_series(1, 1000) n; \
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$; \
         CREATE TRIGGER fail BEFORE INSERT ON annotation FOR EACH ROW WHEN (NEW.id = 600) EXECUTE FUNCTION fail()",
        table("old.dpd_annotations_table")
    ));
    let (code, said) = import(&site, &["--source-timezone", "UTC"]);
    assert!(code == 2 && said.contains("full. What was taken over until then stays"), "{code} {said}");
    let listed = || api.get_json(&format!("/annotations/{uid}")).as_array().map_or(0, Vec::len);
    // Whole batches, and callers go on writing.
    assert_eq!(listed(), 500);
    assert_eq!(api.post("/annotation", &json!({"data_product_uid": uid, "annotation_text": "new"})).status, 201);
    site.database.execute("DROP TRIGGER fail ON annotation");
    let (code, said) = import(&site, &["--source-timezone", "UTC"]);
    assert_eq!((code, count(&said, "imported"), count(&said, "there already")), (0, 500, 500), "{said}");
    assert_eq!(listed(), 1001);
}

#[test]
fn tables_that_are_not_as_they_should_be_are_refused_and_say_why() {
    let (site, _indexer, _api, uid) = site();
    let good = format!("{} INSERT INTO old.t (uid, annotation_text) VALUES ('{uid}', 'x');", table("old.t"));
    for (sql, arguments, says) in [
        (String::new(), &["--from", "old.t"][..], "there is no table old.t"),
        (String::new(), &[], "SCHEMA.TABLE"),
        (String::new(), &["--from", "t"], "'t' is no SCHEMA.TABLE"),
        ("CREATE TABLE old.t (id int, uid text)".to_owned(), &["--from", "old.t"], "no column annotation_text"),
        (
            "CREATE TABLE old.t (id text, uid text, annotation_text text)".to_owned(),
            &["--from", "old.t"],
            "the column id is of the type text",
        ),
        (
            "CREATE DOMAIN old.words AS text; CREATE TABLE old.t (id int, uid text, annotation_text old.words)"
                .to_owned(),
            &["--from", "old.t"],
            "the column annotation_text is of the type old.words",
        ),
        (format!("{good} CREATE VIEW old.v AS SELECT * FROM old.t"), &["--from", "old.v"], "is no table"),
        (
            format!("{} CREATE SCHEMA two; {}", table("old.dpd_annotations_table"), table("two.dpd_annotations_ci")),
            &[],
            "two.dpd_annotations_ci",
        ),
        (good.clone(), &["--from", "old.t", "--source-timezone", "Mars/Olympus"], "no time zone 'Mars/Olympus'"),
    ] {
        site.database.execute(&format!("DROP SCHEMA IF EXISTS old, two CASCADE; CREATE SCHEMA old; {sql}"));
        let (code, said) = import(&site, arguments);
        let last = said.lines().last().unwrap_or_default();
        assert!(code == 2 && last.starts_with("dpd-indexer: ") && last.contains(says), "{sql}: {code} {said}");
        assert!(all(&site).is_empty(), "{sql}");
    }
    // A text that is too long holds up no other, and neither do numbers that no serial gave.
    site.database.execute(&format!(
        "DROP SCHEMA old CASCADE; CREATE SCHEMA old; CREATE TABLE old.t (id bigint, uid text, annotation_text varchar); \
         INSERT INTO old.t VALUES (1, '{uid}', repeat('x', 65537)), (2, '{uid}', repeat('y', 65536)), \
         (9223372036854775807, '{uid}', 'far'), (-1, '{uid}', 'near'), (3, '{uid}', ''), (4, '{uid}', NULL)"
    ));
    let (code, said) = import(&site, &["--from", "old.t"]);
    assert_eq!((code, count(&said, "imported"), count(&said, "unusable")), (0, 1, 5), "{said}");
    assert_eq!(count(&said, "the text is longer than"), 1);
    assert_eq!(site.database.value("SELECT octet_length(annotation_text) FROM annotation"), 65536);
}

#[test]
fn a_table_that_may_not_be_read_says_what_to_grant_and_runs_no_code_of_its_owner() {
    let (site, _indexer, _api, uid) = site();
    let role = format!("reader_in_{}", site.database.name());
    site.database.execute(&format!(
        "{} INSERT INTO old.dpd_annotations_table (uid, annotation_text) VALUES ('{uid}', 'x'); \
         CREATE ROLE {role} LOGIN NOINHERIT; GRANT postgres TO {role}; GRANT USAGE ON SCHEMA public TO {role}; \
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        table("old.dpd_annotations_table")
    ));
    let url = site.database.url().replace("postgres@", &format!("{role}@"));
    let daemons = site.daemons.with("DATABASE_URL", url);
    let (code, out, error) = ended(&daemons, &["import-annotations"]);
    assert!(code == 2 && error.contains("GRANT SELECT"), "{code} {out} {error}");
    site.database.execute(&format!(
        "GRANT USAGE ON SCHEMA old TO {role}; GRANT SELECT ON old.dpd_annotations_table TO {role}; \
         CREATE FUNCTION old.steal() RETURNS boolean LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'their code ran'; END $$; \
         ALTER TABLE old.dpd_annotations_table ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY theirs ON old.dpd_annotations_table USING (old.steal())"
    ));
    let (code, out, error) = ended(&daemons, &["import-annotations"]);
    assert!(
        code == 2 && !error.contains("their code ran") && error.contains("row-level security"),
        "{code} {out} {error}"
    );
    site.database.execute("ALTER TABLE old.dpd_annotations_table DISABLE ROW LEVEL SECURITY");
    let (code, out, error) = ended(&daemons, &["import-annotations"]);
    assert_eq!((code, count(&out, "imported")), (0, 1), "{error}");
    site.database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn metadata_that_callers_brought_are_taken_over_where_nothing_newer_is_there() {
    let (site, _indexer, api, _) = site();
    let row = |block: &str, uid: &str, data: &Value| format!("('{data}', '{block}', '{uid}')");
    let of = |block: &str, observer: &str| {
        json!({"execution_block": block, "context": {"observer": observer}, "date_created": "2024-08-06",
            "dataproduct_file": "None", "metadata_file": "None", "uid": "x"})
    };
    // Those of `eb-test-20240806-99999:None` and so on; the others have a file behind them.
    let uid = |block: &str| shared::uid::ingested(block).to_string();
    let (one, two, bad) = ("eb-test-20240806-99999", "eb-test-20240806-2", "eb-test-20240806-3");
    let rows = [
        row(one, &uid(one), &of(one, "from before")),
        row(two, &uid(two), &of(two, "from before")),
        row(bad, &uid(bad), &json!({"execution_block": 5})),
        row("eb-m005-20231031-12345", "6a11ddaa-6b45-6759-47e7-a5abd5105b0e", &of("eb-m005-20231031-12345", "walked")),
    ];
    site.database.execute(&format!(
        "{} CREATE TABLE old.data_products_metadata_v3 (id serial PRIMARY KEY, data jsonb NOT NULL, \
         execution_block varchar(255), uid uuid UNIQUE, json_hash char(64) UNIQUE); \
         INSERT INTO old.data_products_metadata_v3 (data, execution_block, uid) VALUES {}",
        table("old.data_products_annotations_v1"),
        rows.join(", ")
    ));
    // Brought to this service since.
    assert_eq!(api.post("/ingestnewmetadata", &of(two, "of today")).status, 201);
    for (arguments, imported) in [
        (&["--with-ingested", "--dry-run"][..], 1),
        (&["--with-ingested"], 1),
        (&["--with-ingested", "--ingested-from", "old.data_products_metadata_v3"], 0),
    ] {
        let (code, said) = import(&site, arguments);
        assert_eq!(code, 0, "{said}");
        let (_, said) = said.split_at(said.find("metadata in old").expect("the second table"));
        let word = if arguments.contains(&"--dry-run") { "would be imported" } else { "imported" };
        assert_eq!((count(said, "found"), count(said, word), count(said, "unusable")), (3, imported, 1), "{said}");
    }
    let observer = |block: &str| api.post("/dataproductmetadata", &json!({"execution_block": block})).json();
    assert_eq!(observer(one)["context"]["observer"], "from before");
    assert_eq!(observer(two)["context"]["observer"], "of today");
    assert_eq!((observer(one)["uid"].clone(), api.search(&["observer:walked"]).len()), (json!(uid(one)), 0));
}

#[test]
fn nothing_is_taken_over_before_the_volume_was_indexed() {
    let site = Site::on(Postgres::shared().database());
    site.database.execute(&format!("CREATE SCHEMA old; {}", table("old.dpd_annotations_table")));
    let (code, said) = import(&site, &[]);
    assert!(code == 2 && said.contains("dpd-indexer running"), "{code} {said}");
}
