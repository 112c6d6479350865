//! Flows of the SDP configuration database: what their keys and values say, which folders they write to, and what
//! products show of them.
//!
//! A flow is matched to the products at and below its folder, or where there are none, to those of its processing block
//! ([`choose`]). One that has no product yet is a row of its own, a placeholder ([`Flow::placeholder`]).

mod entry;

pub use entry::{BadEntry, Key, MAX_VALUE, block, data_dir, status};

use crate::access::Access;
use crate::folder::{Folder, MAX_BYTES};
use crate::product::{Origin, Product};
use crate::{date, uid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt;
use uuid::Uuid;

/// The store of placeholders, as rows name it.
pub const STORE: &str = "SDP";
/// The key of rows that holds a product's flows, as JSON.
pub const FLOWS: &str = "sdp_flows";
/// The key of rows that holds the status of the least finished of them.
pub const STATUS: &str = "sdp_flow_status";
/// The key that is true in placeholders.
pub const PLACEHOLDER: &str = "sdp_flow_placeholder";

/// Status values from the least finished on. Any other is on its way between the two groups.
const BEGUN: [&str; 4] = ["WAITING", "PENDING", "INITIALISED", "FLOWING"];
const ENDED: [&str; 2] = ["FAILED", "COMPLETED"];

/// The name of a flow of data products: `<pb-id>:data-product:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowId(String);

impl FlowId {
    /// The name that a store kept.
    pub fn stored(name: String) -> FlowId {
        FlowId(name)
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of its processing block.
    pub fn processing_block(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A flow, as far as the index is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Which one.
    pub id: FlowId,
    /// Where its folder may be, seen from the storage path; empty where its value names none.
    pub folders: Vec<Folder>,
    /// Its status; `None` where it has none yet.
    pub status: Option<String>,
    /// The execution block of its processing block, where that has one.
    pub execution_block: Option<String>,
}

/// What a product shows of one of its flows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowState {
    /// Which flow.
    #[serde(rename = "sdp_flow")]
    pub flow: FlowId,
    /// Its status; `None` where it has none yet.
    #[serde(rename = "sdp_flow_status")]
    pub status: Option<String>,
}

impl Flow {
    /// What a product shows of it.
    pub fn state(&self) -> FlowState {
        FlowState { flow: self.id.clone(), status: self.status.clone() }
    }

    /// Whether no more is to come of it.
    pub fn has_ended(&self) -> bool {
        self.status.as_deref().is_some_and(|status| ENDED.contains(&status))
    }

    /// The row that stands for it while it has no product.
    pub fn placeholder(&self) -> Product {
        let processing_block = self.id.processing_block();
        let mut metadata = Map::new();
        metadata.extend(self.execution_block.clone().map(|id| ("execution_block".to_owned(), Value::from(id))));
        metadata.insert("config".to_owned(), json!({ "processing_block": processing_block }));
        metadata.insert(PLACEHOLDER.to_owned(), Value::Bool(true));
        Product {
            uid: uid::of_flow(self.id.as_str()),
            execution_block: self.execution_block.clone().unwrap_or_default(),
            date_created: date::of_execution_block(processing_block),
            folder: None,
            metadata_file: None,
            store_name: STORE.to_owned(),
            status: None,
            access: Access::Flows,
            metadata,
            flows: vec![self.state()],
        }
    }
}

/// Whether a product without a folder is a flow's [placeholder](Flow::placeholder), whatever its metadata say.
pub fn is_placeholder(uid: Uuid, flows: &[FlowState]) -> bool {
    matches!(flows, [own] if uid::of_flow(own.flow.as_str()) == uid)
}

/// Which products a flow is matched to: those at and below its folder, or where there are none, those of its
/// processing block.
pub fn choose<T>(by_folder: BTreeSet<T>, by_processing_block: impl FnOnce() -> BTreeSet<T>) -> BTreeSet<T> {
    if by_folder.is_empty() { by_processing_block() } else { by_folder }
}

/// The status of the least finished of some flows; `None` where one has none yet, or there is no flow.
pub fn least_finished(flows: &[FlowState]) -> Option<&str> {
    let states = flows.iter().map(|flow| flow.status.as_deref());
    states.min_by_key(|status| (status.map(rank), *status)).flatten()
}

fn rank(status: &str) -> usize {
    let begun = BEGUN.iter().position(|known| *known == status);
    let ended = ENDED.iter().position(|known| *known == status).map(|n| BEGUN.len() + 1 + n);
    begun.or(ended).unwrap_or(BEGUN.len())
}

/// The processing block that flows find a product by: where its metadata names one that could have flows.
pub fn processing_block(product: &Product) -> Option<&str> {
    let id = product.metadata.get("config")?.get("processing_block")?.as_str()?;
    let is_own = product.store_name != STORE && product.store_name != crate::dlm::STORE;
    (is_own && entry::is_processing_block(id)).then_some(id)
}

/// A flow's folder as its value writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    path: String,
    /// Where the volume was mounted for who wrote it.
    mount: Option<String>,
}

impl DataDir {
    /// Where the folder may be, seen from the storage path. Writers see the volume through mounts of their own, and its
    /// data product folder as `product`; so what may be a mount is taken off. The storage path itself is no flow's.
    pub fn folders(&self, origin: &Origin) -> Vec<Folder> {
        let names = names(&self.path);
        let storage = self::names(&origin.storage_path);
        let mount = self.mount.as_deref().map(self::names).unwrap_or_default();
        let after = |at: Option<usize>| at.and_then(|at| names.get(at..));
        let after_name = |wanted: &[&str]| after(names.iter().position(|name| wanted.contains(name)).map(|at| at + 1));
        let tails = [
            names.strip_prefix(storage.as_slice()).filter(|_| !storage.is_empty()),
            names.strip_prefix(mount.as_slice()).filter(|_| !mount.is_empty()),
            Some(names.as_slice()),
            after_name(&["product"]),
            after_name(&storage[storage.len().saturating_sub(1)..]),
            after(names.iter().position(|name| name.starts_with("eb-"))),
        ];
        let mut folders = Vec::new();
        for tail in tails.into_iter().flatten() {
            let folder: Option<Folder> = tail.join("/").parse().ok();
            let fits = |folder: &Folder| !folder.is_root() && folder.as_str().len() < MAX_BYTES;
            folders.extend(folder.filter(|folder| fits(folder) && !folders.contains(folder)));
        }
        folders
    }
}

fn names(path: &str) -> Vec<&str> {
    path.split('/').filter(|name| !matches!(*name, "" | ".")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: Option<&str>) -> FlowState {
        let flow = FlowId::stored("pb-a-20250101-0:data-product:x".to_owned());
        FlowState { flow, status: status.map(str::to_owned) }
    }

    #[test]
    fn the_least_finished_counts() {
        let of = |states: &[Option<&str>]| {
            let flows: Vec<FlowState> = states.iter().map(|status| state(*status)).collect();
            least_finished(&flows).map(str::to_owned)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Some("COMPLETED"), None]), None);
        assert_eq!(of(&[Some("COMPLETED"), Some("FLOWING"), Some("FAILED")]).as_deref(), Some("FLOWING"));
        assert_eq!(of(&[Some("COMPLETED"), Some("FAILED")]).as_deref(), Some("FAILED"));
        assert_eq!(of(&[Some("COMPLETED"), Some("ODD"), Some("FAILED")]).as_deref(), Some("ODD"));
        assert_eq!(of(&[Some("PENDING"), Some("WAITING")]).as_deref(), Some("WAITING"));
    }

    #[test]
    fn a_folder_is_found_through_other_mounts() {
        let origin = |path: &str| Origin {
            storage_path: path.to_owned(),
            name: "shared".to_owned(),
            metadata_file: "m".to_owned(),
        };
        let dir = |path: &str, mount: Option<&str>| DataDir { path: path.to_owned(), mount: mount.map(str::to_owned) };
        let wanted: Folder = "eb-a-20250101-1/ska-sdp/pb-b-20250101-2".parse().expect("a folder");
        for (storage, path, mount) in [
            ("/mnt/data/product", "/product/eb-a-20250101-1/ska-sdp/pb-b-20250101-2", None),
            ("/mnt/data/product", "product/eb-a-20250101-1/ska-sdp/pb-b-20250101-2", Some("/mnt/data")),
            ("/mnt/data/product", "eb-a-20250101-1/ska-sdp/pb-b-20250101-2/", None),
            ("/mnt/data/product", "/mnt/data/product/eb-a-20250101-1/ska-sdp/pb-b-20250101-2", None),
            ("/srv/volume", "/elsewhere/product/eb-a-20250101-1//ska-sdp/./pb-b-20250101-2", None),
            ("/srv/volume", "/elsewhere/volume/eb-a-20250101-1/ska-sdp/pb-b-20250101-2", None),
            ("/srv/volume", "/elsewhere/eb-a-20250101-1/ska-sdp/pb-b-20250101-2", Some("/elsewhere")),
            ("", "eb-a-20250101-1/ska-sdp/pb-b-20250101-2", None),
        ] {
            let folders = dir(path, mount).folders(&origin(storage));
            assert!(folders.contains(&wanted), "{storage} {path}: {folders:?}");
        }
        for path in ["/product", "/", "", "/mnt/data/product/"] {
            let folders = dir(path, None).folders(&origin("/mnt/data/product"));
            assert!(!folders.contains(&Folder::root()), "{path}: {folders:?}");
        }
    }

    #[test]
    fn a_placeholder_is_dated_by_its_processing_block() {
        let flow = Flow {
            id: FlowId::stored("pb-a-20250102-0:data-product:x".to_owned()),
            folders: Vec::new(),
            status: Some("FLOWING".to_owned()),
            execution_block: Some("eb-a-20240101-1".to_owned()),
        };
        let product = flow.placeholder();
        assert_eq!(date::format(product.date_created), "2025-01-02");
        assert_eq!(product.execution_block, "eb-a-20240101-1");
        assert_eq!(processing_block(&product), None);
        let other = Flow { id: FlowId::stored("pb-a-20250102-0:data-product:y".to_owned()), ..flow };
        assert_ne!(product.uid, other.placeholder().uid);
    }
}
