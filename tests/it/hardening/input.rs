//! What callers send and pipelines write: it is stored as it is, or refused with a word why; and it does nothing to what came
//! beside it.

use super::{Running, both};
use serde_json::{Value, json};
use tests::volume::{METADATA, Volume};

fn ingested(running: &Running, body: &[u8]) -> (u16, Value) {
    let answer = running.api.post_bytes("/ingestnewmetadata", body);
    (answer.status, answer.json())
}

#[test]
fn odd_metadata_is_stored_as_it_is_or_refused() {
    let digits = "9".repeat(400);
    let body = |value: &str| format!(r#"{{"execution_block": "eb-odd-20240101-1", "x": {value}}}"#);
    for running in both(|_| (), &[]) {
        for (value, stored) in [
            (r#""a\u0000b""#, json!("a\0b")),
            (r#"{"\u0000": "\u0000"}"#, json!({"\0": "\0"})),
            (r#""\ud83d\ude00""#, json!("😀")),
            ("1e308", json!(1e308)),
            ("-0.0", json!(-0.0)),
            ("5e-324", json!(5e-324)),
            ("1e-400", json!(0.0)),
            ("18446744073709551615", json!(u64::MAX)),
            // Beyond what JSON's readers hold, the text stays.
            ("123456789012345678901234567890", json!("123456789012345678901234567890")),
            (&digits, json!(digits)),
            ("-1e400", json!("-1e400")),
            // The last of equal keys counts.
            (r#"{"k": 1, "k": 2}"#, json!({"k": 2})),
        ] {
            let (status, answer) = ingested(&running, body(value).as_bytes());
            assert_eq!(status, 201, "{value}: {answer}");
            let metadata = running.api.post("/dataproductmetadata", &json!({"uid": answer["uid"]})).json();
            assert_eq!(metadata["x"], stored, "{value}");
            assert_eq!(running.api.search(&["execution_block:eb-odd"]).len(), 1, "{value}");
        }
        for value in [r#""\ud800""#, r#""\udc00\ud800""#, r#"{"\ud800": 1}"#, "1e", "NaN", "\"\0\""] {
            let (status, answer) = ingested(&running, body(value).as_bytes());
            assert!(status == 400 && answer["detail"].is_string(), "{value:.20}: {status} {answer}");
        }
        // Neither the deepest nor the largest of them does more than be refused.
        let deep = body(&("[".repeat(100_000) + &"]".repeat(100_000)));
        assert_eq!(ingested(&running, deep.as_bytes()).0, 400);
        assert_eq!(ingested(&running, body(&("[".repeat(100) + &"]".repeat(100))).as_bytes()).0, 201);
        let text = |bytes: usize| body(&format!("\"{}\"", "x".repeat(bytes)));
        assert_eq!(ingested(&running, text(16 << 20).as_bytes()).0, 413);
        assert_eq!(ingested(&running, text((16 << 20) - 1000).as_bytes()).0, 201);
        assert_eq!(ingested(&running, body(&format!("[{}0]", "0,".repeat(4_000_000))).as_bytes()).0, 422);
        let key = "k".repeat(4 << 20);
        let below: Vec<String> = (0..1000).map(|n| format!("\"{n}\": {n}")).collect();
        assert_eq!(ingested(&running, body(&format!("{{\"{key}\": {{{}}}}}", below.join(","))).as_bytes()).0, 422);
        for (path, limit) in
            [("/dataproductsearch", 1 << 20), ("/filterdataproducts", 1 << 20), ("/annotation", 1 << 20)]
        {
            let answer = running.api.post_bytes(path, text(limit).as_bytes());
            assert_eq!(answer.status, 413, "{path}");
        }
        assert_eq!(running.api.search(&[]).len(), 1);
    }
}

/// Metadata files of which each would do harm to a reader that trusts it.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let file = |more: &str| format!("execution_block: eb-hostile-20240101-1\n{more}\n").into_bytes();
    let many_values = format!("v: [{}0]", "0, ".repeat(600_000));
    let long_key =
        format!("{}: {{{}}}", "k".repeat(1000), (0..100_000).map(|n| format!("{n}: 0")).collect::<Vec<_>>().join(", "));
    vec![
        ("nul", file(r#"x: "a\0b""#)),
        ("nul-key", file(r#""a\0b": 1"#)),
        ("nul-raw", file("x: a\0b")),
        ("nul-block", b"execution_block: \"eb-\\0-20240101-1\"\n".to_vec()),
        ("nul-group", file(r#"context: {access_group: "a\0b"}"#)),
        ("surrogate", file(r#"x: "\ud800""#)),
        ("surrogate-key", file(r#""\udfff": 1"#)),
        ("surrogate-utf8", [file("").as_slice(), b"x: \xed\xa0\x80\n"].concat()),
        ("huge", file(&format!("x: {}", "9".repeat(5000)))),
        ("huge-exponent", file("x: 1.0e+400\ny: -1.0e+400\nz: 1e999999999")),
        ("huge-sexagesimal", file(&format!("x: 1{}", ":59".repeat(500)))),
        ("not-a-number", file("x: .nan\ny: .inf\nz: -.inf")),
        ("twice", file("x: 1\nx: 2\nexecution_block: eb-twice-20240101-1")),
        ("twice-nested", file("x: {a: 1, a: {b: 1, b: 2}}")),
        ("date", file("x: 9999-99-99\ny: 2024-02-30\nz: 99999999999-01-01")),
        ("sizes", file("size: -1\nfiles: [{size: 1e400}, {size: -9223372036854775809}]")),
        ("values", file(&many_values)),
        ("keys", file(&long_key)),
        ("deep", file(&format!("x: {}{}", "[".repeat(100_000), "]".repeat(100_000)))),
        ("deep-block", file(&(0..3000).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>())),
        ("anchors", file("x: &x [*x]")),
        ("merge", file("x: {<<: {<<: {a: 1}}}\n<<: [1, 2]")),
        ("tag", file("x: !!python/object/apply:os.system [id]")),
        ("percent", file("x: '%s%n {} ${x} $(id) `id`'")),
        (
            "fixed-keys",
            file("id: {a: 1}\nuid: [1]\ndate_created: {}\ndataproduct_file: ../..\nmetadata_file: /etc/passwd"),
        ),
    ]
}

#[test]
fn hostile_files_do_nothing_to_their_neighbours() {
    let fill = |volume: &Volume| {
        for (name, bytes) in hostile() {
            volume.write(&format!("hostile/{name}/{METADATA}"), bytes);
            // Read before and after, and in the same batch.
            for place in ["a", "z"] {
                volume.product(&format!("{place}/{name}"), "eb-good-20240101-1", "good: true");
            }
        }
    };
    for running in both(fill, &[]) {
        let count = hostile().len();
        tests::wait_for("all the good ones", || (running.api.search(&["good:true"]).len() == 2 * count).then_some(()));
        // Each of the others is there or in the log with a reason.
        let writer = running.writer();
        let accounted = |status: &Value| {
            let products = status["metadata_store_status"]["number_of_dataproducts"].as_u64().unwrap_or_default();
            products - 2 * count as u64 + writer.log().matches("this metadata file does not read: ").count() as u64
        };
        // One of them may be seen by a group alone.
        running.api.wait_for_status("the others", |status| accounted(status) == count as u64 - 1);
        for pair in ["x:2", "execution_block:eb-twice", "z:.inf", "x:%s%n"] {
            assert!(!running.api.search(&[pair]).is_empty(), "{pair}");
        }
        assert_eq!(running.api.filter(&json!({"sortModel": [{"field": "x", "sort": "desc"}]}))["page"], 0);
        assert!(running.api.memory("VmHWM") < 600 << 20, "{}", running.api.memory("VmHWM"));
        // What is written later is found as well: nobody is held up for good.
        running.volume.product("late", "eb-late-20240101-1", "late: true");
        tests::wait_for("a later one", || (running.api.search(&["late:true"]).len() == 1).then_some(()));
    }
}

#[test]
fn patterns_are_texts_and_cost_little() {
    let long = "a".repeat(200_000);
    for running in both(|volume| volume.product("eb", "eb-a-20240101-1", &format!("x: {long}\ny: (a+)+$")), &[]) {
        for text in ["(a+)+$", "(.*)*b", "%_%_%_%", "[", "\\", "*", "\0", &format!("{long}b")] {
            for operator in ["contains", "startsWith", "endsWith", "equals", "isAnyOf"] {
                let item = json!({"field": "x", "operator": operator, "value": text});
                let answer = running.api.filter(&json!({"filterModel": {"items": [item]}}));
                assert_eq!(answer["total"], 0, "{operator} {text:.20}");
            }
        }
        assert_eq!(running.api.search(&["y:(a+)+$"]).len(), 1);
        let sorts: Vec<Value> = (0..17).map(|n| json!({"field": format!("k{n}"), "sort": "asc"})).collect();
        assert_eq!(running.api.post("/filterdataproducts", &json!({"sortModel": sorts})).status, 400);
        let many = json!({"field": "x", "operator": "isAnyOf", "value": "a,".repeat(501)});
        assert_eq!(running.api.post("/filterdataproducts", &json!({"filterModel": {"items": [many]}})).status, 400);
        let odd = json!({"sortModel": [{"field": "\0.\0.'; DROP TABLE leaf; --", "sort": "desc"}]});
        assert_eq!(running.api.filter(&odd)["total"], 1);
    }
}
