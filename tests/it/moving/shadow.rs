//! `dpd shadow`, between a service like the one before this one and a real API of ours.

use super::old_service::{OldService, State};
use crate::daemons::Site;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use tests::program::{Server, binary, with_bare_environment};
use tests::volume::METADATA;

/// A site with products of several kinds, and annotations of one of them.
fn site() -> (Site, Server, Server) {
    let site = Site::new();
    let more = |n: usize| {
        let label = if n == 0 { "a_b" } else { "axb" };
        format!(
            "x: {n}\nname: a_{n}\nother: axb{n}\nlabel: {label}\nconfig: {{processing_block: pb-m-2024010{n}-1}}\nempty: ''"
        )
    };
    for n in 0..5 {
        site.volume.product(&format!("eb-{n}"), &format!("eb-m-2024010{}-1", n + 1), &more(n));
    }
    site.volume.product("twin", "eb-m-20240101-1", &more(0));
    site.volume.write("eb-1/data.h5", [0; 5000]);
    let (indexer, api) = site.daemons.pair();
    let uid = uid(&api, "eb-0");
    for text in ["Strong RFI", "ärger"] {
        assert_eq!(api.post("/annotation", &json!({"data_product_uid": uid, "annotation_text": text})).status, 201);
    }
    // What is measured shows in rows.
    let measured = |row: &Value| row["size"].is_number();
    tests::wait_for("all sizes", || api.search(&[]).iter().all(measured).then_some(()));
    (site, indexer, api)
}

fn uid(api: &Server, folder: &str) -> String {
    let rows = api.search(&[]);
    let row = rows.iter().find(|row| row["dataproduct_file"] == folder).expect("the product");
    row["uid"].as_str().expect("a uid").to_owned()
}

fn shadow(old: &str, new: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = with_bare_environment(Command::new(binary("dpd")));
    command.args(["shadow", "--old", old, "--new", new]).args(arguments);
    let output = command.output().expect("its end");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
}

/// The report, and the exit code that goes with it.
fn report(old: &OldService, api: &Server, arguments: &[&str]) -> (i32, Value) {
    let (code, out, error) = shadow(&old.url, &api.url, &[&["--json"], arguments].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {out}{error}")))
}

/// How many there are of a class.
fn count(report: &Value, what: &str, verdict: &str, why: Option<&str>) -> u64 {
    let classes = report["classes"].as_array().expect("classes");
    let is_it = |class: &&Value| {
        class["what"] == what
            && class["verdict"] == verdict
            && match (class["explained_by"].as_str(), why) {
                (Some(own), Some(why)) => own.contains(why),
                (own, why) => own.is_none() && why.is_none(),
            }
    };
    classes.iter().filter(is_it).filter_map(|class| class["count"].as_u64()).sum()
}

#[test]
fn services_that_answer_alike_differ_in_nothing_and_are_not_written_to() {
    let (site, _indexer, api) = site();
    let old = OldService::of(&api);
    let state = "SELECT (SELECT string_agg(t::text, ' ' ORDER BY id) FROM annotation t) \
                 || (SELECT string_agg(p::text, ' ' ORDER BY id) FROM data_product p)";
    let before = site.database.value(state);
    let (code, report) = report(&old, &api, &[]);
    assert_eq!((code, &report["unexplained"]), (0, &json!(0)), "{report:#}");
    for (what, equal) in [("data products", 6), ("metadata", 6), ("annotations", 2), ("archives", 6)] {
        assert_eq!(count(&report, what, "equal", None), equal, "{what}: {report:#}");
    }
    assert!(count(&report, "totals of filters", "equal", None) > 50, "{report:#}");
    assert_eq!(site.database.value(state), before);
    let asked: Vec<String> = old.state().asked.iter().cloned().collect();
    let reading = ["GET /annotations", "GET /muidatagridconfig", "GET /status", "HEAD /download"];
    assert_eq!(asked, [&reading[..], &["POST /dataproductmetadata", "POST /filterdataproducts"]].concat());
    // One of a release that answered all rows at once.
    old.state().without_pages = true;
    let (code, out, _) = shadow(&old.url, &api.url, &[]);
    assert!(code == 0 && out.contains("0 differences are unexplained") && out.contains("totals of filters"), "{out}");
}

#[test]
fn known_faults_are_named_and_explain_what_differs() {
    let (site, _indexer, api) = site();
    let old = OldService::of(&api);
    let path = site.volume.path().to_str().expect("text").to_owned();
    let now = "2020-01-01T00:00:00+00:00";
    // The volume went on since the old service looked at it.
    let gone = uid(&api, "eb-4");
    fs::remove_dir_all(site.volume.at("eb-4")).expect("removed");
    site.volume.product("eb-3", "eb-m-20240104-1", "x: 33\nname: a_3");
    site.volume.product("eb-new", "eb-m-20240109-1", "x: 9\nfresh: 1");
    crate::daemons::wait_for_hits(&api, "x:33", 1);
    api.wait_for_folders(&["eb-0", "eb-1", "eb-2", "eb-3", "eb-new", "twin"]);
    let guarded = uid(&api, "eb-2");
    {
        let mut state = old.state();
        state.started_at = now.to_owned();
        state.wildcards = true;
        state.fails_by_annotation = true;
        state.failures = 1;
        state.sizes = None;
        state.unseen.insert("name".to_owned());
        state.columns.push(json!({"field": "secret", "filterOperators": []}));
        // Of two with the same metadata it has one.
        let twin = state.rows.iter().position(|row| row["dataproduct_file"] == "twin").expect("it");
        let row = state.rows.remove(twin);
        state.metadata.remove(row["uid"].as_str().expect("a uid"));
        // One is known and not listed.
        state.rows.retain(|row| row["uid"] != guarded.as_str());
        let own = uid(&api, "eb-0");
        let annotations = state.annotations.get_mut(&own).expect("annotations");
        annotations[0]["timestamp_created"] = shifted(&annotations[0]["timestamp_created"]);
        annotations[1]["user_principal_name"] = Value::Null;
    }
    let (code, report) = report(&old, &api, &["--volume", &path]);
    assert_eq!((code, &report["unexplained"]), (0, &json!(0)), "{report:#}");
    for (what, verdict, why, expected) in [
        ("data products", "old has more", "lists removed products", 1),
        ("data products", "new has more", "notices new products", 1),
        ("data products", "new has more", "the same metadata", 1),
        ("data products", "new has more", "before the access rule", 1),
        ("metadata", "differs", "edited files", 1),
        ("annotations", "differs", "have no zone", 1),
        ("annotations", "differs", "anonymous", 1),
        ("archives", "not compared", "sizes of archives", 3),
        ("columns", "old has more", "may not see", 1),
        ("totals of filters", "differs", "filter by annotation", 1),
    ] {
        assert_eq!(count(&report, what, verdict, Some(why)), expected, "{why}: {report:#}");
    }
    let any = |why: &str| {
        let classes = report["classes"].as_array().expect("classes");
        classes.iter().any(|class| class["explained_by"].as_str().is_some_and(|own| own.contains(why)))
    };
    for why in ["are wildcards", "follows from products", "no search has seen"] {
        assert!(any(why), "{why}: {report:#}");
    }
    assert!(report["classes"].to_string().contains(&gone), "{report:#}");
    // Without the volume nobody can say that it is gone.
    let (code, report) = self::report(&old, &api, &[]);
    assert_eq!((code, count(&report, "data products", "old has more", None)), (1, 1), "{report:#}");
}

/// A time two hours later.
fn shifted(time: &Value) -> Value {
    let own = format!("{}Z", time.as_str().expect("a time"));
    let later = chrono::DateTime::parse_from_rfc3339(&own).expect("a time") + chrono::TimeDelta::hours(2);
    later.format("%Y-%m-%dT%H:%M:%S%.6f").to_string().into()
}

#[test]
fn whatever_else_differs_is_unexplained() {
    let (site, _indexer, api) = site();
    let old = OldService::of(&api);
    let path = site.volume.path().to_str().expect("text").to_owned();
    let (first, other) = (uid(&api, "eb-0"), uid(&api, "eb-1"));
    let whole = old.state().clone();
    type Change<'a> = &'a dyn Fn(&mut State);
    let changes: [(&str, Change<'_>, &str, &str, &str); 9] = [
        ("a value", &|own| own.metadata.get_mut(&other).expect("it")["x"] = json!(5), "metadata", "differs", &other),
        (
            "a key",
            &|own| own.metadata.get_mut(&other).expect("it")["more"] = json!({"deep": 1}),
            "metadata",
            "differs",
            "more: old {\"deep\":1}, new nothing",
        ),
        (
            "a product with its file",
            &|own| {
                let mut row = own.rows[0].clone();
                row.insert("uid".to_owned(), json!("00000000-0000-0000-0000-000000000001"));
                own.rows.push(row);
            },
            "data products",
            "old has more",
            "00000000-0000-0000-0000-000000000001",
        ),
        (
            "a product of ours",
            &|own| {
                own.rows.retain(|row| row["uid"] != other.as_str());
                own.metadata.remove(&other);
            },
            "data products",
            "new has more",
            &other,
        ),
        (
            "a text",
            &|own| own.annotations.get_mut(&first).expect("it")[0]["annotation_text"] = json!("another"),
            "annotations",
            "differs",
            "another annotation_text",
        ),
        (
            "an annotation of theirs",
            &|own| {
                let all = own.annotations.get_mut(&first).expect("it").as_array_mut().expect("a list");
                let mut more = all[0].clone();
                more["annotation_id"] = json!(4711);
                all.push(more);
            },
            "annotations",
            "old has more",
            "annotation 4711",
        ),
        (
            "a size",
            &|own| *own.sizes.as_mut().expect("sizes").get_mut(&other).expect("it") += 1,
            "archives",
            "old has more",
            &other,
        ),
        (
            "a total",
            &|own| {
                own.rows.iter_mut().for_each(|row| {
                    if row["uid"] == other.as_str() {
                        row.insert("other".to_owned(), json!("nothing"));
                    }
                });
            },
            "totals of filters",
            "new has more",
            "other ",
        ),
        (
            "a column",
            &|own| {
                own.columns.push(json!({"field": "flag", "filterOperators": []}));
                own.rows[0].insert("flag".to_owned(), json!(true));
            },
            "columns",
            "old has more",
            "flag",
        ),
    ];
    for (what, change, class, verdict, named) in changes {
        let mut state = whole.clone();
        change(&mut state);
        *old.state() = state;
        let (code, report) = report(&old, &api, &["--volume", &path]);
        assert_eq!(code, 1, "{what}: {report:#}");
        assert!(count(&report, class, verdict, None) > 0, "{what}: {report:#}");
        assert!(report["classes"].to_string().replace("\\\"", "\"").contains(named), "{what}: {report:#}");
    }
    // The report for people says it as well.
    let (_, out, error) = shadow(&old.url, &api.url, &["--columns", "1"]);
    assert!(out.contains("UNEXPLAINED") && out.contains("flag"), "{out}");
    assert!(error.lines().last().is_some_and(|line| line.contains("unexplained")), "{error}");
    assert!(site.volume.at("eb-0").join(METADATA).exists());
}

#[test]
fn what_cannot_be_compared_says_why() {
    let (_site, _indexer, api) = site();
    let old = OldService::of(&api);
    let nobody = tests::permissions::nowhere();
    for (old, new, arguments, code, says) in [
        (nobody.as_str(), api.url.as_str(), &[][..], 5, "cannot be reached"),
        (&old.url, &nobody, &[], 5, "cannot be reached"),
        ("example.org", &api.url, &[], 2, "--server"),
        (&old.url, &api.url, &["--volume", "/no/such/folder"], 2, "--volume"),
    ] {
        let (own, out, error) = shadow(old, new, arguments);
        assert!(own == code && error.contains(says), "{says}: {own} {out}{error}");
    }
    old.state().token = Some("theirs");
    assert_eq!(shadow(&old.url, &api.url, &[]).0, 4);
    assert_eq!(shadow(&old.url, &api.url, &["--token", "theirs"]).0, 0);
}
