//! What a search means: numbers, texts, and values as they stand in a file.

use crate::daemons::{Site, wait_for_hits};
use serde_json::{Value, json};
use tests::program::Server;
use tests::volume::Volume;

/// Both ways to serve products, as different stores: in memory, and from PostgreSQL.
fn on_each(products: &[(&str, &str)], check: impl Fn(&Server)) {
    let fill = |volume: &Volume| {
        for (n, (folder, more)) in products.iter().enumerate() {
            volume.product(folder, &format!("eb-a-20240108-{n}"), more);
        }
    };
    let volume = Volume::new();
    fill(&volume);
    check(&Server::start(volume.path()));
    let site = Site::new();
    fill(&site.volume);
    let (_indexer, api) = site.daemons.pair();
    wait_for_hits(&api, "execution_block:eb-a", products.len());
    check(&api);
}

fn folders(rows: &Value) -> Vec<&str> {
    rows.as_array().expect("rows").iter().map(|row| row["dataproduct_file"].as_str().expect("a folder")).collect()
}

fn filtered(api: &Server, field: &str, operator: &str, value: &Value) -> Vec<String> {
    let item = json!({"field": field, "operator": operator, "value": value});
    let answer = api.filter(&json!({"filterModel": {"items": [item]}}));
    folders(&answer["data"]).into_iter().map(str::to_owned).collect()
}

fn found(api: &Server, pair: &str) -> Vec<String> {
    folders(&Value::from(api.search(&[pair]))).into_iter().map(str::to_owned).collect()
}

#[test]
fn integers_are_compared_exactly() {
    let products = [
        ("odd", "scan: 9007199254740993"),
        ("even", "scan: 9007199254740992"),
        ("double", "scan: 9007199254740992.0"),
        ("below", "scan: -9007199254740993"),
    ];
    on_each(&products, |api| {
        let (odd, even) = (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992_i64));
        for (operator, value, expected) in [
            ("equals", json!("9007199254740993"), &["odd"][..]),
            ("=", odd.clone(), &["odd"]),
            ("=", even.clone(), &["double", "even"]),
            ("!=", odd.clone(), &["below", "double", "even"]),
            (">", even.clone(), &["odd"]),
            ("<=", even.clone(), &["below", "double", "even"]),
            ("<", odd.clone(), &["below", "double", "even"]),
            ("isAnyOf", json!([odd, "x"]), &["odd"]),
            ("doesNotEqual", even, &["below", "odd"]),
        ] {
            let mut found = filtered(api, "scan", operator, &value);
            found.sort();
            assert_eq!(found, expected, "{operator} {value}");
        }
        assert_eq!(found(api, "scan:-9007199254740993"), ["below"]);
        assert_eq!(found(api, "scan:9007199254740993").first().map(String::as_str), Some("odd"));
        let sorted = api.filter(&json!({"sortModel": [{"field": "scan", "sort": "desc"}]}));
        let order = folders(&sorted["data"]);
        assert_eq!((order[0], order[3]), ("odd", "below"));
    });
}

#[test]
fn texts_are_found_in_every_case_and_form() {
    let products =
        [("sigma", "name: ΣΙΓΜΑΣΚΟΠΙΟ"), ("accent", "name: \"Cafe\\u0301 \\u212A\""), ("eszett", "name: STRAẞE")];
    on_each(&products, |api| {
        for (folder, words) in [
            ("sigma", &["ΣΙΓΜΑΣ", "σιγμας", "ΣΙΓΜΑ", "σιγμασ", "σιγμασκοπιο", "ΚΟΠΙΟ"][..]),
            ("accent", &["café", "CAFÉ k", "cafe\u{301}", "É"]),
            ("eszett", &["Straße", "STRAẞE"]),
        ] {
            for word in words {
                assert_eq!(found(api, &format!("name:{word}")), [folder], "{word}");
                assert_eq!(filtered(api, "name", "contains", &json!(word)), [folder], "{word}");
                let quick = api.filter(&json!({"filterModel": {"quickFilterValues": [word]}}));
                assert_eq!(folders(&quick["data"]), [folder], "{word}");
            }
        }
        assert_eq!(filtered(api, "name", "equals", &json!("σιγμασκοπιο")), ["sigma"]);
        assert_eq!(filtered(api, "name", "startsWith", &json!("CAFÉ")), ["accent"]);
        assert!(found(api, "name:cafe ").is_empty() && found(api, "name:strasse").is_empty());
    });
}

#[test]
fn annotations_are_found_as_texts_are() {
    let site = Site::new();
    site.products(2);
    let (indexer, api) = site.daemons.pair();
    let uid = api.search(&["n:0"])[0]["uid"].clone();
    for text in ["ΣΙΓΜΑΣΚΟΠΙΟ", "Cafe\u{301}"] {
        let answer = api.post("/annotation", &json!({"data_product_uid": uid, "annotation_text": text}));
        assert_eq!(answer.status, 201);
    }
    let all_are_found = || {
        let is_found = |word: &&str| filtered(&api, "annotation", "contains", &json!(word)) == ["eb-0"];
        ["ΣΙΓΜΑΣ", "σιγμας", "σιγμα", "CAFÉ", "cafe\u{301}"].iter().all(is_found)
    };
    assert!(all_are_found());
    assert_eq!(filtered(&api, "annotation", "equals", &json!("café")), ["eb-0"]);
    // As a release before wrote them.
    indexer.stop();
    site.database.execute("UPDATE annotation SET value = convert_to(annotation_text || 'ς', 'UTF8')");
    assert!(!all_are_found());
    let _indexer = site.daemons.indexer();
    tests::wait_for("annotations to be folded anew", || all_are_found().then_some(()));
}

#[test]
fn numbers_are_found_as_they_stand_in_their_file() {
    let products = [
        ("small", "em_min: 2.5e-07"),
        ("whole", "em_min: 1.0"),
        ("large", "em_min: 1.0e+3"),
        ("hex", "em_min: 0x1F"),
        ("time", "em_min: 12:30:45"),
        ("text", "em_min: 12345e10"),
    ];
    on_each(&products, |api| {
        for (folder, values) in [
            ("small", &["2.5e-07", "2.5e-7", "0.00000025", "2.50E-7"][..]),
            ("whole", &["1.00", "+1"]),
            ("large", &["1.0e+3", "1e3", "+1000", "1_000"]),
            ("hex", &["0x1F", "31.0"]),
            ("time", &["12:30:45", "45045"]),
            ("text", &["12345E10"]),
        ] {
            for value in values {
                assert_eq!(found(api, &format!("em_min:{value}")), [folder], "{value}");
                for operator in ["contains", "equals"] {
                    assert_eq!(filtered(api, "em_min", operator, &json!(value)), [folder], "{operator} {value}");
                }
                assert_eq!(filtered(api, "em_min", "isAnyOf", &json!([value, "x"])), [folder], "{value}");
                assert_eq!(filtered(api, "em_min", "doesNotEqual", &json!(value)).len(), 5, "{value}");
            }
        }
        // Text is compared as text, whatever it looks like.
        assert!(found(api, "em_min:123450000000000").is_empty());
    });
}

#[test]
fn columns_of_numbers_may_hold_what_is_not_finite() {
    let products = [("a", "x: 1.5"), ("b", "x: .inf"), ("c", "x: .nan"), ("d", "x: -1.0e+999"), ("e", "x: 7")];
    on_each(&products, |api| {
        let columns = api.get_json("/muidatagridconfig")["columns"].clone();
        let column = columns.as_array().expect("columns").iter().find(|column| column["field"] == "x").cloned();
        assert_eq!(column.expect("a column")["type"], "number");
        assert_eq!(api.search(&["x:.inf"])[0]["x"], ".inf");
        assert_eq!(filtered(api, "x", ">", &json!(0)).len(), 2);
        for way in ["asc", "desc"] {
            let sorted = api.filter(&json!({"sortModel": [{"field": "x", "sort": way}]}));
            let order = folders(&sorted["data"]).concat();
            assert!(order.contains(if way == "asc" { "ae" } else { "ea" }), "{way} {order}");
        }
    });
}

#[test]
fn line_breaks_of_yaml_1_1_read_as_in_pyyaml() {
    on_each(&[("a", "x: 'a\u{2028}b\u{85}c'")], |api| {
        assert_eq!(api.search(&["execution_block:eb-a"])[0]["x"], "a\u{2028}b c");
    });
}
