//! What a data product is: metadata with an execution block, and what follows from it.

use crate::access::Access;
use crate::flow::{self, FlowState};
use crate::folder::Folder;
use crate::yaml::{self, YamlError};
use crate::{date, uid};
use chrono::NaiveDate;
use serde_json::{Map, Value};
use std::collections::HashSet;
use uuid::Uuid;

/// What stands in a row's `dataproduct_file` and `metadata_file` when nothing on the volume stands behind it. The
/// dashboard disables its download button on exactly this.
pub const NO_FILE: &str = "None";

/// A product, as stores hold it and searches find it.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// Its name for ever; see [`uid`](mod@crate::uid).
    pub uid: Uuid,
    /// The execution block that made it; empty for a flow's placeholder whose processing block names none.
    pub execution_block: String,
    /// The date in the execution block's id, or for a flow's placeholder in the processing block's.
    pub date_created: NaiveDate,
    /// Its folder on the volume; `None` where nothing on the volume stands behind it.
    pub folder: Option<Folder>,
    /// The name of its metadata file, where it has a folder.
    pub metadata_file: Option<String>,
    /// The store that it belongs to, as rows name it: the volume's name, `DLM`, or `SDP`.
    pub store_name: String,
    /// What the states of its files come to: `failure`, `working` or `done`.
    pub status: Option<&'static str>,
    /// Who may see it.
    pub access: Access,
    /// The metadata as written, nested.
    pub metadata: Map<String, Value>,
    /// The flows that it is matched to, by name.
    pub flows: Vec<FlowState>,
}

/// Why metadata makes no product.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMetadata {
    /// It is no YAML.
    #[error("{0}")]
    Yaml(#[from] YamlError),
    /// It is no map at its top.
    #[error("the metadata must be a map, but it is {0}")]
    NotAMap(&'static str),
    /// It comes to more than a store could hold in bounded memory and time.
    #[error("the metadata is too much: {0}")]
    TooMuch(String),
    /// It names no execution block.
    #[error("'execution_block' must be a non-empty string, but it is {0}")]
    ExecutionBlock(&'static str),
}

/// What no metadata says of a product, as stores keep it.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are those of Product")]
pub struct Stored {
    pub uid: Uuid,
    pub date_created: NaiveDate,
    pub folder: Option<Folder>,
    pub metadata_file: Option<String>,
    pub store_name: String,
    pub flows: Vec<FlowState>,
}

/// Where the volume's products come from: what their uids and rows say beside the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The storage path as configured, normalised by [`uid::normalise`].
    pub storage_path: String,
    /// The volume's name, which is its store's.
    pub name: String,
    /// What a metadata file is called.
    pub metadata_file: String,
}

impl Product {
    /// The product whose metadata file, found in `folder`, holds `bytes`.
    ///
    /// # Errors
    /// Where the bytes are no YAML, no map, or name no execution block.
    pub fn from_file(bytes: &[u8], origin: &Origin, folder: &Folder) -> Result<Product, BadMetadata> {
        let mut product = Product::from_metadata(yaml::parse(bytes)?, &origin.name)?;
        product.uid = uid::on_volume(&product.execution_block, &origin.storage_path, folder);
        product.folder = Some(folder.clone());
        product.metadata_file = Some(origin.metadata_file.clone());
        Ok(product)
    }

    /// The product of metadata that was ingested, with nothing on the volume behind it.
    ///
    /// # Errors
    /// Where it is no map, names no execution block, or is too much.
    pub fn from_metadata(metadata: Value, store_name: &str) -> Result<Product, BadMetadata> {
        let mut extent = Extent::default();
        extent.measure(&metadata, 0)?;
        // There are no more keys than there are names.
        if extent.names > MAX_DISTINCT {
            check_distinct(&mut String::new(), &metadata, &mut HashSet::new())?;
        }
        let execution_block = match metadata.as_object().map(|map| map.get("execution_block")) {
            None => return Err(BadMetadata::NotAMap(kind(&metadata))),
            Some(Some(Value::String(id))) if !id.is_empty() => id.clone(),
            Some(None) => return Err(BadMetadata::ExecutionBlock("missing")),
            Some(Some(Value::String(_))) => return Err(BadMetadata::ExecutionBlock("empty")),
            Some(Some(other)) => return Err(BadMetadata::ExecutionBlock(kind(other))),
        };
        let Value::Object(metadata) = metadata else { return Err(BadMetadata::NotAMap("no map")) };
        let stored = Stored {
            uid: uid::ingested(&execution_block),
            date_created: date::of_execution_block(&execution_block),
            folder: None,
            metadata_file: None,
            store_name: store_name.to_owned(),
            flows: Vec::new(),
        };
        Ok(Product::restored(metadata, stored))
    }

    /// The product that a store holds: its metadata, and beside it what [`Stored`] has.
    pub fn restored(metadata: Map<String, Value>, stored: Stored) -> Product {
        let Stored { uid, date_created, folder, metadata_file, store_name, flows } = stored;
        let is_placeholder = folder.is_none() && flow::is_placeholder(uid, &flows);
        Product {
            uid,
            execution_block: metadata.get("execution_block").and_then(Value::as_str).unwrap_or_default().to_owned(),
            date_created,
            folder,
            metadata_file,
            store_name,
            status: status(&metadata),
            access: if is_placeholder { Access::Flows } else { Access::of(&metadata) },
            metadata,
            flows,
        }
    }

    /// How many values it has, lists and maps among them: what it costs a store to write it goes by that.
    pub fn values(&self) -> usize {
        self.metadata.values().map(count).sum()
    }

    /// The folder as rows show it, [`NO_FILE`] where there is none.
    pub fn dataproduct_file(&self) -> &str {
        self.folder.as_ref().map_or(NO_FILE, Folder::as_path)
    }

    /// The metadata file's path below the storage path as rows show it, [`NO_FILE`] where there is none.
    pub fn metadata_path(&self) -> String {
        match (&self.folder, &self.metadata_file) {
            (Some(folder), Some(file)) => folder.join(file).to_string(),
            _ => NO_FILE.to_owned(),
        }
    }
}

/// The most distinct dotted keys that a product may have: each is a column for everybody.
const MAX_DISTINCT: usize = 5000;
/// The most values that a product may have, and the most bytes of the dotted keys of all of them. A value stands under its
/// whole key, so that a long one with many below it comes to far more than it takes in a file.
const MAX_VALUES: usize = 500_000;
const MAX_KEYS: usize = 64 * 1024 * 1024;

/// How many values a value is, with all that are in it.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(map) => map.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// How much metadata comes to.
#[derive(Default)]
struct Extent {
    values: usize,
    keys: usize,
    names: usize,
}

impl Extent {
    /// Adds a value that stands under a dotted key of `key` bytes, and all that is in it.
    fn measure(&mut self, value: &Value, key: usize) -> Result<(), BadMetadata> {
        self.add(key)?;
        match value {
            Value::Object(map) => {
                self.names += map.len();
                map.iter().try_for_each(|(name, value)| self.measure(value, key + 1 + name.len()))
            }
            Value::Array(items) => items.iter().try_for_each(|item| self.measure(item, key)),
            _ => Ok(()),
        }
    }

    fn add(&mut self, key: usize) -> Result<(), BadMetadata> {
        self.values += 1;
        self.keys = self.keys.saturating_add(key);
        if self.values > MAX_VALUES {
            return Err(BadMetadata::TooMuch(format!("it has more than {MAX_VALUES} values")));
        }
        if self.keys > MAX_KEYS {
            return Err(BadMetadata::TooMuch(format!("the keys of its values come to more than {MAX_KEYS} bytes")));
        }
        Ok(())
    }
}

/// Refuses metadata with too many distinct dotted keys. `key` is the one that `value` stands under.
fn check_distinct(key: &mut String, value: &Value, seen: &mut HashSet<String>) -> Result<(), BadMetadata> {
    match value {
        Value::Null => Ok(()),
        Value::Object(map) => map.iter().try_for_each(|(name, value)| {
            let length = key.len();
            key.push('.');
            key.push_str(name);
            let checked = check_distinct(key, value, seen);
            key.truncate(length);
            checked
        }),
        other => {
            if !seen.contains(key) {
                seen.insert(key.clone());
            }
            if seen.len() > MAX_DISTINCT {
                return Err(BadMetadata::TooMuch(format!("it has more than {MAX_DISTINCT} distinct keys")));
            }
            let items = other.as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().try_for_each(|item| check_distinct(key, item, seen))
        }
    }
}

/// What a value is, for a message.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// `failure` if any file failed, else `working` if any is, else `done` if there are files, else nothing.
fn status(metadata: &Map<String, Value>) -> Option<&'static str> {
    let files = metadata.get("files")?.as_array()?;
    let any = |state: &str| files.iter().any(|file| file.get("status").and_then(Value::as_str) == Some(state));
    match () {
        () if any("failure") => Some("failure"),
        () if any("working") => Some("working"),
        () if !files.is_empty() => Some("done"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn status_follows_the_files() {
        let of_json = |metadata: Value| status(metadata.as_object().expect("a map"));
        let of = |states: &[&str]| {
            let files: Vec<_> = states.iter().map(|s| json!({"status": s})).collect();
            of_json(json!({ "files": files }))
        };
        assert_eq!(of(&["done", "failure", "working"]), Some("failure"));
        assert_eq!(of(&["done", "working"]), Some("working"));
        assert_eq!(of(&["done", "finished"]), Some("done"));
        assert_eq!(of(&[]), None);
        assert_eq!(of_json(json!({})), None);
        assert_eq!(of_json(json!({"files": "none"})), None);
    }

    #[test]
    fn an_execution_block_is_needed() {
        for metadata in [
            json!({}),
            json!({"execution_block": null}),
            json!({"execution_block": 5}),
            json!({"execution_block": ["eb"]}),
            json!({"execution_block": ""}),
            json!([]),
            json!("eb"),
            json!(null),
        ] {
            assert!(Product::from_metadata(metadata.clone(), "v").is_err(), "{metadata}");
        }
    }

    #[test]
    fn what_comes_to_too_much_is_refused() {
        let refused = |metadata: Value| matches!(Product::from_metadata(metadata, "v"), Err(BadMetadata::TooMuch(_)));
        let list = |count: usize| json!({"execution_block": "eb", "v": vec![0; count]});
        assert!(!refused(list(MAX_VALUES - 3)) && refused(list(MAX_VALUES)));
        let keys = |count: usize| -> Value {
            let many: Map<String, Value> = (0..count).map(|n| (n.to_string(), json!(n))).collect();
            json!({"execution_block": "eb", "v": many})
        };
        assert!(!refused(keys(MAX_DISTINCT - 1)) && refused(keys(MAX_DISTINCT)));
        let lists = |count: usize, names: usize| -> Value {
            let items: Vec<Value> = (0..count).map(|n| json!({ format!("k{}", n % names): n })).collect();
            json!({"execution_block": "eb", "v": items})
        };
        assert!(!refused(lists(20_000, 100)) && refused(lists(20_000, MAX_DISTINCT)));
        let below = |length: usize| {
            let many: Map<String, Value> = (0..1000).map(|n| (n.to_string(), json!(n))).collect();
            json!({"execution_block": "eb", "k".repeat(length): many})
        };
        assert!(!refused(below(10_000)) && refused(below(100_000)));
    }

    #[test]
    fn a_file_makes_a_product() {
        let origin = Origin { storage_path: "/data".into(), name: "vol".into(), metadata_file: "m.yaml".into() };
        let folder = "a/b".parse().expect("a folder");
        let product = Product::from_file(b"execution_block: eb-x-20240102-1", &origin, &folder).expect("a product");
        assert_eq!(product.uid, uid::on_volume("eb-x-20240102-1", "/data", &folder));
        assert_eq!(product.metadata_path(), "a/b/m.yaml");
        assert_eq!(product.dataproduct_file(), "a/b");
        assert_eq!(date::format(product.date_created), "2024-01-02");
    }
}
