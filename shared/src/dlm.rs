//! Data items of the Data Lifecycle Manager: which of them are products, and what these show.

use crate::json;
use crate::product::{BadMetadata, Product};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The store of data items, as rows name it.
pub const STORE: &str = "DLM";
/// The key under which a product shows what the manager knows of it.
const OWN: &str = "dlm";

/// A row of the manager's table that carries metadata and is not deleted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DataItem {
    /// The manager's own uid, which is the product's.
    pub uid: Uuid,
    /// The metadata as JSON.
    pub metadata: String,
    /// The item's name.
    pub name: Option<String>,
    /// Its state, such as `READY`.
    pub state: Option<String>,
    /// Where it is.
    pub uri: Option<String>,
    /// What it is a copy of: copies at several storages are items of their own.
    pub oid: Option<String>,
    /// Which version of that it is.
    pub version: Option<String>,
    /// The storage that it is at.
    pub storage: Option<String>,
    /// Its size in bytes.
    pub size: Option<i64>,
}

/// Why a data item is no product.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadItem {
    /// Its metadata is JSON that cannot be held.
    #[error("the metadata cannot be read: {0}")]
    Json(String),
    /// Its metadata makes no product.
    #[error("{0}")]
    Metadata(#[from] BadMetadata),
}

impl DataItem {
    /// The product that it is. Beside its metadata it has what the manager knows of it, as `dlm.item_state` and so on: whatever
    /// the metadata says under these keys, nested or dotted, is not it.
    ///
    /// # Errors
    /// Where the metadata is no map or names no execution block.
    pub fn product(&self) -> Result<Product, BadItem> {
        let metadata = json::parse(self.metadata.as_bytes()).map_err(|error| BadItem::Json(error.to_string()))?;
        let mut product = Product::from_metadata(metadata, STORE)?;
        product.uid = self.uid;
        self.show(&mut product.metadata);
        Ok(product)
    }

    /// Puts what the manager knows into the metadata.
    fn show(&self, metadata: &mut Map<String, Value>) {
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let version = self.version.as_ref().and_then(|version| version.parse::<i64>().ok()).map(Value::from);
        let own = [
            ("item_state", text(&self.state)),
            ("item_name", text(&self.name)),
            ("uri", text(&self.uri)),
            ("oid", text(&self.oid)),
            ("item_version", version.or_else(|| text(&self.version))),
            ("storage_id", text(&self.storage)),
        ];
        metadata.retain(|key, _| {
            let name = key.strip_prefix(OWN).and_then(|rest| rest.strip_prefix('.'));
            name.is_none_or(|name| own.iter().all(|(own, _)| *own != name))
        });
        let known = own.iter().filter_map(|(name, value)| Some((*name, value.clone()?)));
        match metadata.get_mut(OWN) {
            Some(Value::Object(nested)) => {
                nested.retain(|name, _| own.iter().all(|(own, _)| own != name));
                nested.extend(known.map(|(name, value)| (name.to_owned(), value)));
            }
            None | Some(Value::Null) => {
                let nested: Map<String, Value> = known.map(|(name, value)| (name.to_owned(), value)).collect();
                metadata.insert(OWN.to_owned(), nested.into());
            }
            // What stands there has no room for more.
            Some(_) => metadata.extend(known.map(|(name, value)| (format!("{OWN}.{name}"), value))),
        }
    }

    /// Its size in bytes, where known. A negative one says nothing.
    pub fn bytes(&self) -> Option<u64> {
        self.size.and_then(|size| u64::try_from(size).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row;
    use serde_json::json;

    fn item(metadata: &str) -> DataItem {
        DataItem {
            uid: Uuid::from_u128(7),
            metadata: metadata.to_owned(),
            name: Some("vis".to_owned()),
            state: Some("READY".to_owned()),
            uri: None,
            oid: Some("o".to_owned()),
            version: Some("3".to_owned()),
            storage: None,
            size: Some(-1),
        }
    }

    #[test]
    fn an_item_shows_what_the_manager_knows() {
        let item = item(r#"{"execution_block": "eb-x-20240102-1"}"#);
        let product = item.product().expect("a product");
        let row = row::row(1, &product, item.bytes());
        assert_eq!(row["uid"], json!(Uuid::from_u128(7).to_string()));
        assert_eq!(row["metadata_store_name"], json!("DLM"));
        assert_eq!(row["dataproduct_file"], json!("None"));
        assert_eq!(row["dlm.item_state"], json!("READY"));
        assert_eq!(row["dlm.item_name"], json!("vis"));
        assert_eq!((&row["dlm.oid"], &row["dlm.item_version"]), (&json!("o"), &json!(3)));
        for absent in ["dlm.uri", "dlm.storage_id", "size"] {
            assert!(!row.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn what_the_manager_knows_is_what_shows() {
        for (metadata, expected) in [
            (
                json!({"dlm": {"item_name": "mine", "x": 1}, "dlm.uri": "z", "dlm.item_state": {"a": 1}, "dlm.y": 2}),
                json!({"dlm.item_state": "READY", "dlm.item_name": "vis", "dlm.oid": "o", "dlm.item_version": 3, "dlm.x": 1, "dlm.y": 2}),
            ),
            (
                json!({"dlm": "mine", "dlm.item_name": "mine"}),
                json!({"dlm": "mine", "dlm.item_state": "READY", "dlm.item_name": "vis", "dlm.oid": "o", "dlm.item_version": 3}),
            ),
            (
                json!({"dlm": {"storage_id": "mine", "item_version": {"b": 1}, "uri": ["z"]}, "dlmx": 1, "item_name": "n"}),
                json!({"dlm.item_state": "READY", "dlm.item_name": "vis", "dlm.oid": "o", "dlm.item_version": 3, "dlmx": 1, "item_name": "n"}),
            ),
        ] {
            let mut whole = metadata.clone();
            whole["execution_block"] = json!("eb-x-20240102-1");
            let product = item(&whole.to_string()).product().expect("a product");
            let row = row::row(1, &product, None);
            let shown: Map<String, Value> =
                row.into_iter().filter(|(key, _)| key.starts_with("dlm") || key == "item_name").collect();
            assert_eq!(Value::from(shown), expected, "{metadata}");
        }
    }

    #[test]
    fn odd_metadata_is_no_product() {
        for odd in [r#""text""#, "[]", "null", "5", r#"{"execution_block": 5}"#, "{}", "{", r#"{"a": 1e999}"#] {
            assert!(item(odd).product().is_err(), "{odd}");
        }
    }
}
