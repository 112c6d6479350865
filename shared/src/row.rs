//! A product as a search sees it ([`leaves`]) and as it is shown ([`row`]).
//!
//! Both speak of **fixed fields**, which every product has, and of the metadata beside them under dotted keys. Where
//! metadata has a key of a fixed field's name at its top, the fixed field is meant.

use crate::date;
use crate::product::Product;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

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

/// The metadata that stands beside the fixed fields.
fn beside_fixed(product: &Product) -> impl Iterator<Item = (&String, &Value)> {
    product.metadata.iter().filter(|(key, _)| !FIXED.contains(&key.as_str()))
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
        flatten(key.clone(), value, &mut |key, value| {
            // A dotted key of the metadata can spell a fixed field's name only by having no dot.
            row.insert(key, value.clone());
        });
    }
    row
}

/// The keys of a product's row beside the fixed ones, and whether each value is a number.
pub fn keys(product: &Product) -> BTreeMap<String, bool> {
    let mut keys = BTreeMap::new();
    for (key, value) in beside_fixed(product) {
        flatten(key.clone(), value, &mut |key, value| {
            keys.insert(key, value.is_number());
        });
    }
    keys
}

fn flatten(key: String, value: &Value, each: &mut impl FnMut(String, &Value)) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (name, value) in map {
                flatten(format!("{key}.{name}"), value, each);
            }
        }
        scalar_or_array => each(key, scalar_or_array),
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
    let mut leaves: Vec<Leaf> = fixed(product, size).map(|(key, value)| Leaf { key: key.to_owned(), value }).collect();
    for (key, value) in beside_fixed(product) {
        collect(key.clone(), value, &mut leaves);
    }
    leaves
}

fn collect(key: String, value: &Value, leaves: &mut Vec<Leaf>) {
    match value {
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        Value::Object(map) => map.iter().for_each(|(name, value)| collect(format!("{key}.{name}"), value, leaves)),
        Value::Array(items) => items.iter().for_each(|item| collect(key.clone(), item, leaves)),
        scalar => leaves.push(Leaf { key, value: scalar.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
