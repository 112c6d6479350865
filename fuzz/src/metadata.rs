//! Metadata files: whatever is in one, it makes a product or an error, and a product is what it was after a way through JSON.

use serde_json::{Map, Value};
use shared::filter::Filter;
use shared::folder::Folder;
use shared::product::{BadMetadata, Origin, Product, Stored};
use shared::row;

pub(crate) fn feed(data: &[u8]) {
    let origin =
        Origin { storage_path: "/data".to_owned(), name: "volume".to_owned(), metadata_file: "m.yaml".to_owned() };
    let Ok(folder) = "a/b".parse::<Folder>() else { return };
    match Product::from_file(data, &origin, &folder) {
        Ok(product) => is_sound(&product),
        Err(BadMetadata::Yaml(error)) => {
            assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty(), "{error:?}");
        }
        Err(other) => assert!(!other.to_string().is_empty()),
    }
}

fn is_sound(product: &Product) {
    assert!(!product.execution_block.is_empty());
    let text = Value::Object(product.metadata.clone()).to_string();
    let again: Map<String, Value> = serde_json::from_str(&text).expect("what was written as JSON reads as JSON");
    let stored = Stored {
        uid: product.uid,
        date_created: product.date_created,
        folder: product.folder.clone(),
        metadata_file: product.metadata_file.clone(),
        store_name: product.store_name.clone(),
        flows: Vec::new(),
    };
    let restored = Product::restored(again, stored);
    assert_eq!(*product, restored);
    let leaves = row::leaves(product, Some(1));
    assert!(Filter::everything().matches(&leaves));
    for leaf in &leaves {
        assert!(!matches!(&leaf.value, Value::Null | Value::Array(_) | Value::Object(_)), "{leaf:?}");
    }
    let shown = row::row(1, product, Some(1));
    assert!(shown.values().all(|value| !value.is_null() && !value.is_object()));
    assert!(row::keys(product).keys().all(|key| shown.contains_key(key)));
}
