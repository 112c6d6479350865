//! What the configuration database has, as far as the index is concerned, as values: nothing here asks it.

use shared::flow::{self, BadEntry, DataDir, Flow, FlowId, Key};
use shared::folder::Folder;
use shared::product::Origin;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::warn;

/// A flow's keys. Either may be there without the other.
#[derive(Debug, Default)]
struct Entry {
    /// Where its folder may be; `None` where the flow itself is not there, or cannot be read.
    folders: Option<Vec<Folder>>,
    status: Option<String>,
}

/// All entries that were read, less those of no use.
#[derive(Debug)]
pub(crate) struct Entries {
    origin: Origin,
    flows: BTreeMap<FlowId, Entry>,
    /// Processing blocks, and their execution blocks.
    blocks: HashMap<String, Option<String>>,
    /// Those that cannot be used.
    bad: BTreeMap<Vec<u8>, BadEntry>,
    /// Those that could not be used before, and were told of.
    told: BTreeMap<Vec<u8>, BadEntry>,
}

impl Entries {
    pub(crate) fn new(origin: Origin) -> Entries {
        let (flows, blocks, bad, told) = Default::default();
        Entries { origin, flows, blocks, bad, told }
    }

    /// Empty ones, for everything to be read again. What was told is not told again.
    pub(crate) fn anew(&self) -> Entries {
        let mut entries = Entries::new(self.origin.clone());
        entries.told.clone_from(&self.bad);
        entries
    }

    /// Notes an entry, and answers the flows that it is about.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Vec<FlowId> {
        match Key::parse(key) {
            Ok(Key::Other) => Vec::new(),
            Ok(Key::Flow(id)) => {
                let folders = |dir: Option<DataDir>| dir.map(|dir| dir.folders(&self.origin)).unwrap_or_default();
                let read = flow::data_dir(value).map(folders);
                let folders = self.usable(key, read);
                self.flows.entry(id.clone()).or_default().folders = folders;
                vec![id]
            }
            Ok(Key::State(id)) => {
                let status = self.usable(key, flow::status(value)).flatten();
                self.flows.entry(id.clone()).or_default().status = status;
                vec![id]
            }
            Ok(Key::ProcessingBlock(id)) => {
                let block = self.usable(key, flow::block(value)).flatten();
                let flows = self.of_block(&id);
                self.blocks.insert(id, block);
                flows
            }
            Err(error) => {
                self.pass_over(key, error);
                Vec::new()
            }
        }
    }

    /// Forgets an entry, and answers the flows that it is about.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Vec<FlowId> {
        self.bad.remove(key);
        match Key::parse(key) {
            Ok(Key::Flow(id)) => self.forget(id, |entry| entry.folders = None),
            Ok(Key::State(id)) => self.forget(id, |entry| entry.status = None),
            Ok(Key::ProcessingBlock(id)) => {
                self.blocks.remove(&id);
                self.of_block(&id)
            }
            Ok(Key::Other) | Err(_) => Vec::new(),
        }
    }

    fn forget(&mut self, id: FlowId, part: impl FnOnce(&mut Entry)) -> Vec<FlowId> {
        if let Some(entry) = self.flows.get_mut(&id) {
            part(entry);
            if entry.folders.is_none() && entry.status.is_none() {
                self.flows.remove(&id);
            }
        }
        vec![id]
    }

    /// Notes an entry that cannot be used.
    pub(crate) fn pass_over(&mut self, key: &[u8], error: BadEntry) {
        if self.told.get(key) != Some(&error) && self.bad.get(key) != Some(&error) {
            warn!(%error, "{} is passed over in the SDP configuration database", key.escape_ascii());
        }
        self.bad.insert(key.to_owned(), error);
    }

    fn usable<T>(&mut self, key: &[u8], read: Result<T, BadEntry>) -> Option<T> {
        match read {
            Ok(value) => {
                self.bad.remove(key);
                Some(value)
            }
            Err(error) => {
                self.pass_over(key, error);
                None
            }
        }
    }

    fn of_block(&self, id: &str) -> Vec<FlowId> {
        let beginning = format!("{id}:");
        let from = FlowId::stored(beginning.clone());
        let ids = self.flows.range(from..).map(|(id, _)| id);
        ids.take_while(|id| id.as_str().starts_with(&beginning)).cloned().collect()
    }

    fn flow(&self, id: &FlowId) -> Option<Flow> {
        let entry = self.flows.get(id)?;
        Some(Flow {
            id: id.clone(),
            folders: entry.folders.clone()?,
            status: entry.status.clone(),
            execution_block: self.blocks.get(id.processing_block()).cloned().flatten(),
        })
    }

    fn all(&self) -> BTreeMap<FlowId, Flow> {
        self.flows.keys().filter_map(|id| Some((id.clone(), self.flow(id)?))).collect()
    }
}

/// How many there are of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) flows: u64,
    pub(crate) passed_over: u64,
    pub(crate) first_passed_over: Option<String>,
}

/// The entries, shared by who follows the database and the workers.
#[derive(Debug)]
pub(crate) struct Mirror(Mutex<Entries>);

impl Mirror {
    pub(crate) fn new(origin: Origin) -> Mirror {
        Mirror(Mutex::new(Entries::new(origin)))
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A flow as it is now.
    pub(crate) fn flow(&self, id: &FlowId) -> Option<Flow> {
        self.entries().flow(id)
    }

    /// Takes entries that were all read anew, and answers the flows that are others than before. Where `stored` is
    /// given, that is before; otherwise what the mirror had.
    pub(crate) fn replace(&self, new: Entries, stored: Option<BTreeMap<FlowId, Flow>>) -> BTreeSet<FlowId> {
        let mut entries = self.entries();
        let (before, after) = (stored.unwrap_or_else(|| entries.all()), new.all());
        *entries = new;
        let ids: BTreeSet<&FlowId> = before.keys().chain(after.keys()).collect();
        ids.into_iter().filter(|id| before.get(id) != after.get(id)).cloned().collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        let entries = self.entries();
        let first = entries.bad.first_key_value();
        Counts {
            flows: entries.flows.values().filter(|entry| entry.folders.is_some()).count() as u64,
            passed_over: entries.bad.len() as u64,
            first_passed_over: first.map(|(key, error)| format!("{}: {error}", key.escape_ascii())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FLOW: &str = "/flow/pb-a-20250101-0:data-product:x";

    fn mirror() -> Mirror {
        Mirror::new(Origin { storage_path: "/d/product".into(), name: "v".into(), metadata_file: "m".into() })
    }

    fn sink(dir: &str) -> Vec<u8> {
        json!({"sink": {"data_dir": dir}}).to_string().into_bytes()
    }

    fn id() -> FlowId {
        FlowId::stored("pb-a-20250101-0:data-product:x".to_owned())
    }

    #[test]
    fn keys_of_a_flow_come_in_any_order() {
        let mirror = mirror();
        let state = format!("{FLOW}/state");
        assert_eq!(mirror.entries().put(state.as_bytes(), br#"{"status": "FLOWING"}"#), [id()]);
        assert_eq!(mirror.flow(&id()), None);
        mirror.entries().put(b"/pb/pb-a-20250101-0", br#"{"eb_id": "eb-1"}"#);
        assert_eq!(mirror.entries().put(FLOW.as_bytes(), &sink("/product/eb-1")), [id()]);
        let flow = mirror.flow(&id()).expect("a flow");
        assert_eq!(flow.status.as_deref(), Some("FLOWING"));
        assert_eq!(flow.execution_block.as_deref(), Some("eb-1"));
        assert_eq!(mirror.entries().delete(b"/pb/pb-a-20250101-0"), [id()]);
        assert_eq!(mirror.flow(&id()).expect("a flow").execution_block, None);
        mirror.entries().delete(state.as_bytes());
        assert_eq!(mirror.flow(&id()).expect("a flow").status, None);
        mirror.entries().delete(FLOW.as_bytes());
        assert_eq!(mirror.counts().flows, 0);
        assert!(mirror.entries().flows.is_empty());
    }

    #[test]
    fn a_bad_value_is_as_none() {
        let mirror = mirror();
        mirror.entries().put(FLOW.as_bytes(), &sink("/product/eb-1"));
        mirror.entries().put(FLOW.as_bytes(), b"half");
        assert_eq!(mirror.flow(&id()), None);
        assert_eq!(mirror.counts().passed_over, 1);
        mirror.entries().put(FLOW.as_bytes(), &sink("/product/eb-1"));
        assert!(mirror.flow(&id()).is_some());
        assert_eq!(mirror.counts().passed_over, 0);
        mirror.entries().put(b"/flow/garbage", b"{}");
        assert!(mirror.counts().first_passed_over.is_some_and(|first| first.starts_with("/flow/garbage")));
        mirror.entries().delete(b"/flow/garbage");
        assert_eq!(mirror.counts().passed_over, 0);
    }

    #[test]
    fn what_differs_after_reading_everything_again() {
        let mirror = mirror();
        let other = |n: u32| format!("/flow/pb-a-20250101-0:data-product:{n}");
        for n in 0..4 {
            mirror.entries().put(other(n).as_bytes(), &sink("/product/eb-1"));
        }
        let mut new = mirror.entries().anew();
        new.put(other(1).as_bytes(), &sink("/product/eb-1"));
        new.put(other(2).as_bytes(), &sink("/product/eb-2"));
        new.put(other(3).as_bytes(), &sink("/product/eb-1"));
        new.put(format!("{}/state", other(3)).as_bytes(), br#"{"status": "FAILED"}"#);
        new.put(other(4).as_bytes(), &sink("/product/eb-1"));
        let changed = mirror.replace(new, None);
        let names: Vec<&str> = changed.iter().map(|id| id.as_str().rsplit(':').next().unwrap_or_default()).collect();
        assert_eq!(names, ["0", "2", "3", "4"]);
        let stored = mirror.entries().all();
        let same = mirror.entries().anew();
        assert_eq!(mirror.replace(same, Some(BTreeMap::new())).len(), 0);
        let empty = mirror.entries().anew();
        assert_eq!(mirror.replace(empty, Some(stored)).len(), 4);
    }
}
