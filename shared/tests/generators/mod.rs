//! What property tests are made of: metadata, what happens to a store, and the words of searches. Everything is made of
//! few words, so that products share keys and searches find some of them.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use shared::folder::Folder;
use shared::product::Product;
use shared::store::Change;
use shared::uid;
use shared::volume::{Found, Stamp};
use std::sync::Arc;

/// Those of the grid, and some that are none.
pub(crate) const OPERATORS: [&str; 28] = [
    "contains",
    "doesNotContain",
    "equals",
    "doesNotEqual",
    "startsWith",
    "endsWith",
    "isEmpty",
    "isNotEmpty",
    "isAnyOf",
    "=",
    "!=",
    ">",
    ">=",
    "<",
    "<=",
    "is",
    "not",
    "after",
    "onOrAfter",
    "before",
    "onOrBefore",
    "greaterThan",
    "lessThan",
    "like",
    "",
    "CONTAINS",
    "==",
    "isEmpty ",
];

/// One name of a key.
pub(crate) fn name() -> impl Strategy<Value = String> {
    let odd = vec!["config", "size", "id", "a.b", "", "Ä", "%", "'; --", "a\\b", "\0", "\\0", "annotation"];
    prop_oneof![prop::sample::select(vec!["a", "b", "files"]), prop::sample::select(odd)].prop_map(str::to_owned)
}

/// A value that is neither list nor map.
pub(crate) fn scalar() -> impl Strategy<Value = Value> {
    let words = vec![
        "",
        "x",
        "X",
        "xy",
        "1",
        "4.0",
        "1e300",
        "2023-10-31",
        "2024-01-01T10:00:00Z",
        "+12023-01-01",
        "-0001-12-31",
        "a_c",
        "abc",
        "%",
        "Straße",
        "STRASSE",
        "straſſe",
        "İ",
        "i",
        "ΑΣ",
        "ασ",
        "ας",
        "ΑΣΑ",
        "é",
        "É",
        "E\u{301}",
        "\u{212a}",
        "9007199254740992",
        "9007199254740993",
        "18446744073709551616",
        "-9223372036854775809",
        "2.5e-07",
        "0.00000025",
        "+1",
        "0x1",
        ".inf",
        "-.inf",
        ".nan",
        "1.0e+999",
        "\0",
        "a\0b",
        "\\",
        "\\0",
        "'",
        "\"",
        "\u{10ffff}",
    ];
    // Some that differ at the end of what an index has of them, one of them within a character.
    let long = ["", "é", "y", "Yz"].map(|end| format!("{}{end}", "Lo".repeat(31) + "n"));
    let long = long.into_iter().chain(["é", "x"].map(|end| "Lo".repeat(32) + end));
    let numbers = [
        json!(u64::MAX),
        json!(i64::MIN),
        json!(9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_993_i64),
        json!(9_007_199_254_740_992.0),
        json!(-9_007_199_254_740_993_i64),
        json!(9_999_999_999_999_999_i64),
        json!(1e16),
        json!(2f64.powi(63)),
        json!(2f64.powi(64)),
        json!(-0.0),
        json!(1e300),
        json!(5e-324),
        json!(2.5e-7),
        json!(1e-10),
    ];
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => (-3i64..3).prop_map(Value::from),
        1 => (-2.0f64..2.0).prop_map(|n| json!((n * 2.0).round() / 2.0)),
        1 => any::<f64>().prop_map(Value::from),
        2 => prop::sample::select(numbers.to_vec()),
        3 => prop::sample::select(words).prop_map(Value::from),
        1 => prop::sample::select(long.collect::<Vec<_>>()).prop_map(Value::from),
        1 => "\\PC{0,6}".prop_map(Value::from),
    ]
}

/// JSON of a little depth.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// What makes a product.
pub(crate) fn metadata() -> impl Strategy<Value = Value> {
    let blocks = vec!["eb-a-20231031-1", "eb-b-20240101-2", "eb-c", "EB-A", "eb-\0\\'-19000101-1", "eb-x-20230229-1"];
    let group = prop_oneof![
        5 => Just(Value::Null),
        1 => Just(json!("staff")),
        1 => Just(json!(["x", "staff"])),
        1 => Just(json!(["\0", "\\0", "'"])),
        1 => Just(json!({})),
    ];
    let files = prop_oneof![
        2 => Just(Value::Null),
        1 => Just(json!([{"status": "done", "crc": "aa"}, {"status": "working", "crc": "bb"}])),
        1 => value(),
    ];
    let entries = prop::collection::vec((name(), value()), 0..8);
    (prop::sample::select(blocks), group, files, entries).prop_map(|(block, group, files, entries)| {
        let mut map: Map<String, Value> = entries.into_iter().collect();
        map.insert("execution_block".to_owned(), json!(block));
        map.insert("context".to_owned(), json!({"access_group": group}));
        map.insert("files".to_owned(), files);
        Value::Object(map)
    })
}

/// Something that happens to a store. Folders go by number.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write(usize, Value),
    Remove(usize),
    Fail(usize),
    Measure(usize, Option<u64>),
    Ingest(Value),
}

/// Where products are. Some are in others, some only begin as others do.
pub(crate) const FOLDERS: [&str; 8] = ["a", "a/b", "a-b", "", "a0/ü", "\u{10ffff}", "b\\'%", "a/b/c"];

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let folder = || 0..FOLDERS.len();
    prop_oneof![
        5 => (folder(), metadata()).prop_map(|(folder, metadata)| Step::Write(folder, metadata)),
        2 => folder().prop_map(Step::Remove),
        1 => folder().prop_map(Step::Fail),
        1 => (folder(), prop::option::of(0u64..9)).prop_map(|(folder, bytes)| Step::Measure(folder, bytes)),
        1 => metadata().prop_map(Step::Ingest),
    ]
}

pub(crate) fn folder(n: usize) -> Folder {
    FOLDERS[n].parse().expect("a folder")
}

/// What was read in a folder, as a metadata file's `version`th version.
pub(crate) fn found(folder: &Folder, metadata: &Value, version: i64) -> Found {
    let mut product = Product::from_metadata(metadata.clone(), "vol").expect("a product");
    product.uid = uid::on_volume(&product.execution_block, "/v", folder);
    product.folder = Some(folder.clone());
    product.metadata_file = Some("m.yaml".to_owned());
    // Any bytes do, as long as others are others.
    let bytes = metadata.to_string().into_bytes();
    let digest = Sha256::digest(&bytes).into();
    let stamp = Stamp { size: bytes.len() as u64, inode: u64::MAX, modified: version, changed: version };
    Found { product: Arc::new(product), stamp, digest }
}

/// The change that a step is; the metadata where it is none.
pub(crate) fn change(step: Step, version: i64) -> Result<Change, Value> {
    Ok(match step {
        Step::Write(at, metadata) => Change::Found(found(&folder(at), &metadata, version)),
        Step::Remove(at) => Change::Gone(folder(at)),
        Step::Fail(at) => {
            let stamp = Some(Stamp { modified: version, changed: version, ..Stamp::default() });
            Change::Failing { folder: folder(at), path: format!("{}/m.yaml", folder(at)), error: "e".to_owned(), stamp }
        }
        Step::Measure(at, bytes) => Change::Measured { folder: folder(at), bytes },
        Step::Ingest(metadata) => return Err(metadata),
    })
}
