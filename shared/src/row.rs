//! A product as a search sees it ([`leaves`]) and as it is shown ([`row`]).
//!
//! Both speak of **fixed fields**, which every product has, and of the metadata beside them under dotted keys; a product
//! with flows has two more. Where metadata has a key of such a field's name at its top, the field is meant.

use crate::date;
use crate::flow::{self, FLOWS, STATUS};
use crate::folder::Folder;
use crate::product::{NO_FILE, Product};
use crate::uid;
use crate::yaml;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The fixed fields in a row's order. `id` is the row's own and nothing to search by.
pub const FIXED: [&str; 9] = [
    "id",
    "uid",
    "execution_block",
    "date_created",
    "dataproduct_file",
    "metadata_file",
    "metadata_store_name",
    "size",
    "status",
];

/// The fixed fields of a product but for `id`, those without a value left out.
fn fixed(product: &Product, size: Option<u64>) -> impl Iterator<Item = (&'static str, Value)> {
    [
        ("uid", Some(Value::from(product.uid.to_string()))),
        ("execution_block", Some(Value::from(product.execution_block.clone()))),
        ("date_created", Some(Value::from(date::format(product.date_created)))),
        ("dataproduct_file", Some(Value::from(product.dataproduct_file()))),
        ("metadata_file", Some(Value::from(product.metadata_path()))),
        ("metadata_store_name", Some(Value::from(product.store_name.clone()))),
        ("size", size.map(Value::from)),
        ("status", product.status.map(Value::from)),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
}

/// What a product with flows has more.
fn of_flows(product: &Product) -> impl Iterator<Item = (&'static str, Value)> {
    let flows = (!product.flows.is_empty()).then(|| (FLOWS, Value::from(flows_json(product).to_string())));
    let status = flow::least_finished(&product.flows).map(|status| (STATUS, Value::from(status)));
    flows.into_iter().chain(status)
}

fn flows_json(product: &Product) -> Value {
    serde_json::to_value(&product.flows).unwrap_or_default()
}

/// The metadata that stands beside the fields.
fn beside_fixed(product: &Product) -> impl Iterator<Item = (&String, &Value)> {
    let is_field = |key: &str| FIXED.contains(&key) || [FLOWS, STATUS].contains(&key);
    product.metadata.iter().filter(move |(key, _)| !is_field(key))
}

/// A product's metadata as it is answered: nested, with its flows where it has some, and at the end what tells which
/// product it is. The paths there lead to its folder and its file from wherever the volume is mounted at the storage path.
pub fn metadata(product: &Product, storage_path: &str) -> Map<String, Value> {
    let mut metadata = product.metadata.clone();
    if !product.flows.is_empty() {
        metadata.insert(FLOWS.to_owned(), flows_json(product));
        metadata.insert(STATUS.to_owned(), flow::least_finished(&product.flows).into());
    }
    let path = |below: Option<&Folder>| match below.map(|below| uid::path(storage_path, below)) {
        None => NO_FILE.to_owned(),
        Some(path) if path.is_empty() => ".".to_owned(),
        Some(path) => path,
    };
    let folder = product.folder.as_ref();
    let file = folder.zip(product.metadata_file.as_ref()).map(|(folder, file)| folder.join(file));
    for (key, value) in [
        ("date_created", date::format(product.date_created)),
        ("dataproduct_file", path(folder)),
        ("metadata_file", path(file.as_ref())),
        ("uid", product.uid.to_string()),
    ] {
        // What the metadata says under such a key does not count, here as in rows.
        metadata.shift_remove(key);
        metadata.insert(key.to_owned(), value.into());
    }
    metadata
}

/// The row that lists and searches answer: nested objects under dotted keys, arrays as they are, nulls left out.
///
/// `size` is the bytes on disk, where known.
pub fn row(id: u64, product: &Product, size: Option<u64>) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("id".to_owned(), Value::from(id));
    for (key, value) in fixed(product, size) {
        row.insert(key.to_owned(), value);
    }
    for (key, value) in beside_fixed(product) {
        flatten(&mut key.clone(), value, &mut |key, value| {
            // A dotted key of the metadata can spell a field's name only by having no dot.
            row.insert(key.to_owned(), value.clone());
        });
    }
    row.extend(of_flows(product).map(|(key, value)| (key.to_owned(), value)));
    row
}

/// The keys of a product's row beside the fixed ones, and whether each value is a number.
pub fn keys(product: &Product) -> BTreeMap<String, bool> {
    let mut keys = BTreeMap::new();
    each_key(product, &mut |key, number| {
        keys.insert(key.to_owned(), number);
    });
    keys
}

/// Tells [`keys`] one by one. Of a key that is told more than once the last time counts.
pub fn each_key(product: &Product, each: &mut impl FnMut(&str, bool)) {
    for (key, value) in beside_fixed(product) {
        flatten(&mut key.clone(), value, &mut |key, value| each(key, is_number(value)));
    }
    of_flows(product).for_each(|(key, _)| each(key, false));
}

/// Whether a value of a row counts as a number. A float that JSON cannot hold keeps its text, and makes its column no other.
fn is_number(value: &Value) -> bool {
    value.is_number() || value.as_str().is_some_and(yaml::is_non_finite)
}

/// Goes to all values of a row at and below a key.
fn flatten(key: &mut String, value: &Value, each: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Null => {}
        Value::Object(map) => below(key, map, &mut |key, value| flatten(key, value, each)),
        scalar_or_array => each(key, scalar_or_array),
    }
}

/// Goes to the values of a map under their dotted keys.
fn below(key: &mut String, map: &Map<String, Value>, each: &mut dyn FnMut(&mut String, &Value)) {
    let length = key.len();
    for (name, value) in map {
        key.push('.');
        key.push_str(name);
        each(key, value);
        key.truncate(length);
    }
}

/// One value of a product under its dotted path. Lists leave no trace in the path: the `crc` of each of `files` is a
/// leaf `files.crc`.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf<K = String> {
    /// The dotted path.
    pub key: K,
    /// A boolean, a number, or a string that is not empty.
    pub value: Value,
}

/// Everything that a search can find a product by. Nulls and empty strings are no values.
pub fn leaves(product: &Product, size: Option<u64>) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    each_leaf(product, size, &mut |key, value| leaves.push(Leaf { key: key.to_owned(), value: value.clone() }));
    leaves
}

/// Tells [`leaves`] one by one.
pub fn each_leaf(product: &Product, size: Option<u64>, each: &mut impl FnMut(&str, &Value)) {
    let fields = fixed(product, size).chain(of_flows(product)).filter(|(_, value)| *value != "");
    fields.for_each(|(key, value)| each(key, &value));
    for (key, value) in beside_fixed(product) {
        descend(&mut key.clone(), value, each);
    }
}

/// The keys of a product's [`leaves`] that depend on its metadata.
pub fn leaf_keys(product: &Product) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for (key, value) in beside_fixed(product) {
        descend(&mut key.clone(), value, &mut |key, _| {
            if !keys.contains(key) {
                keys.insert(key.to_owned());
            }
        });
    }
    keys
}

/// Goes to all values at and below a key.
fn descend(key: &mut String, value: &Value, each: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        Value::Object(map) => below(key, map, &mut |key, value| descend(key, value, each)),
        Value::Array(items) => items.iter().for_each(|item| descend(key, item, each)),
        scalar => each(key, scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowId, FlowState};
    use serde_json::json;

    fn product() -> Product {
        let metadata = json!({
            "interface": "i", "execution_block": "eb-x-20240102-1", "size": "shadowed",
            "context": {"observer": null, "notes": "", "deep": {"er": [1, {"x": true}]}}, "empty": {},
            "files": [{"path": "a", "crc": "2a890fbe", "status": "done"}, {"path": "b", "crc": null}],
        });
        Product::from_metadata(metadata, "vol").expect("a product")
    }

    #[test]
    fn rows_are_flat_and_ordered() {
        let row = row(7, &product(), Some(12));
        let keys: Vec<&str> = row.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "id",
                "uid",
                "execution_block",
                "date_created",
                "dataproduct_file",
                "metadata_file",
                "metadata_store_name",
                "size",
                "status",
                "interface",
                "context.notes",
                "context.deep.er",
                "files"
            ]
        );
        assert_eq!(row["size"], json!(12));
        assert_eq!(row["context.notes"], json!(""));
        assert_eq!(row["files"][1], json!({"path": "b", "crc": null}));
        assert_eq!(row["dataproduct_file"], json!("None"));
    }

    #[test]
    fn floats_that_json_cannot_hold_count_as_numbers() {
        let metadata =
            json!({"execution_block": "eb", "n": {"inf": ".inf", "nan": ".NaN", "large": "-1.0e+999"}, "s": "1.0"});
        let keys = keys(&Product::from_metadata(metadata, "vol").expect("a product"));
        let numbers: Vec<&str> = keys.iter().filter(|(_, number)| **number).map(|(key, _)| key.as_str()).collect();
        assert_eq!(numbers, ["n.inf", "n.large", "n.nan"]);
    }

    #[test]
    fn flows_show_in_rows_and_in_metadata() {
        let state = |name: &str, status: &str| FlowState {
            flow: FlowId::stored(name.to_owned()),
            status: Some(status.to_owned()),
        };
        let mut product = product();
        product.metadata.insert(FLOWS.to_owned(), json!("of the file"));
        assert!(!row(1, &product, None).contains_key(FLOWS));
        assert_eq!(metadata(&product, "/v")[FLOWS], json!("of the file"));
        product.flows = vec![state("a", "COMPLETED"), state("b", "FLOWING")];
        let row = row(1, &product, None);
        let expected = json!([
            {"sdp_flow": "a", "sdp_flow_status": "COMPLETED"},
            {"sdp_flow": "b", "sdp_flow_status": "FLOWING"},
        ]);
        assert_eq!(row[FLOWS], json!(expected.to_string()));
        assert_eq!(row[STATUS], json!("FLOWING"));
        assert_eq!(metadata(&product, "/v")[FLOWS], expected);
        assert_eq!(metadata(&product, "/v")[STATUS], json!("FLOWING"));
        assert!(leaves(&product, None).iter().any(|leaf| leaf.key == STATUS && leaf.value == json!("FLOWING")));
        assert!(keys(&product).contains_key(FLOWS));
    }

    #[test]
    fn metadata_ends_in_what_tells_which_product_it_is() {
        let mut product = product();
        product.metadata.insert("uid".to_owned(), json!("the file's own"));
        product.metadata.insert("last".to_owned(), json!(1));
        let end = |product: &Product, storage_path: &str| {
            let metadata = metadata(product, storage_path);
            assert_eq!(metadata.keys().filter(|key| *key == "uid").count(), 1);
            let keys: Vec<&str> = metadata.keys().map(String::as_str).collect();
            assert!(keys.ends_with(&["last", "date_created", "dataproduct_file", "metadata_file", "uid"]), "{keys:?}");
            assert_eq!((&metadata["date_created"], &metadata["uid"]), (&json!("2024-01-02"), &json!(product.uid)));
            [&metadata["dataproduct_file"], &metadata["metadata_file"]]
                .map(|path| path.as_str().unwrap_or("").to_owned())
        };
        assert_eq!(end(&product, "/v"), ["None", "None"]);
        product.metadata_file = Some("m.yaml".to_owned());
        for (storage_path, folder, expected) in [
            ("tests/product", "eb/pb", ["tests/product/eb/pb", "tests/product/eb/pb/m.yaml"]),
            ("/", "eb", ["/eb", "/eb/m.yaml"]),
            ("/v", "", ["/v", "/v/m.yaml"]),
            ("", "eb", ["eb", "eb/m.yaml"]),
            ("", "", [".", "m.yaml"]),
        ] {
            product.folder = Some(folder.parse().expect("a folder"));
            assert_eq!(end(&product, storage_path), expected, "{storage_path} {folder}");
        }
    }

    #[test]
    fn leaves_reach_into_lists() {
        let all = leaves(&product(), None);
        let at = |key: &str| all.iter().filter(|l| l.key == key).map(|l| l.value.clone()).collect::<Vec<_>>();
        assert_eq!(at("files.path"), [json!("a"), json!("b")]);
        assert_eq!(at("files.crc"), [json!("2a890fbe")]);
        assert_eq!(at("context.deep.er"), [json!(1)]);
        assert_eq!(at("context.deep.er.x"), [json!(true)]);
        assert!(at("context.notes").is_empty());
        assert!(at("size").is_empty());
    }
}
