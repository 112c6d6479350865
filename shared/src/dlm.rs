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
#[derive(Debug, Clone, PartialEq)]
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
    /// The product that it is. Beside its metadata it has `dlm.item_state`, `dlm.item_name` and `dlm.uri`.
    ///
    /// # Errors
    /// Where the metadata is no map or names no execution block.
    pub fn product(&self) -> Result<Product, BadItem> {
        let metadata = json::parse(self.metadata.as_bytes()).map_err(|error| BadItem::Json(error.to_string()))?;
        let mut product = Product::from_metadata(metadata, STORE)?;
        product.uid = self.uid;
        let mut own = Map::new();
        for (key, value) in [("item_state", &self.state), ("item_name", &self.name), ("uri", &self.uri)] {
            own.extend(value.clone().map(|value| (key.to_owned(), Value::from(value))));
        }
        product.metadata.insert(OWN.to_owned(), Value::Object(own));
        Ok(product)
    }

    /// Its size in bytes, where known.
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
            size: Some(-1),
        }
    }

    #[test]
    fn an_item_shows_what_the_manager_knows() {
        let item = item(r#"{"execution_block": "eb-x-20240102-1", "dlm": "mine"}"#);
        let product = item.product().expect("a product");
        let row = row::row(1, &product, item.bytes());
        assert_eq!(row["uid"], json!(Uuid::from_u128(7).to_string()));
        assert_eq!(row["metadata_store_name"], json!("DLM"));
        assert_eq!(row["dataproduct_file"], json!("None"));
        assert_eq!(row["dlm.item_state"], json!("READY"));
        assert_eq!(row["dlm.item_name"], json!("vis"));
        assert!(!row.contains_key("dlm.uri") && !row.contains_key("size"));
    }

    #[test]
    fn odd_metadata_is_no_product() {
        for odd in [r#""text""#, "[]", "null", "5", r#"{"execution_block": 5}"#, "{}", "{", r#"{"a": 1e999}"#] {
            assert!(item(odd).product().is_err(), "{odd}");
        }
    }
}
