//! Flows in the index: which products they are matched to, and what these and placeholders show of them.

use super::index::{Index, Prepared};
use super::products::{Named, Slot};
use crate::flow::{self, Flow, FlowId, FlowState, choose};
use crate::folder::Folder;
use crate::product::Product;
use crate::store::Outcome;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// The flows, and how they and the products find each other.
#[derive(Debug, Default)]
pub(super) struct Flows {
    pub(super) all: BTreeMap<FlowId, Flow>,
    by_folder: BTreeMap<Folder, BTreeSet<FlowId>>,
    /// The products of each processing block.
    pub(super) products: Named,
    /// What is matched, from either end.
    matched: BTreeMap<FlowId, BTreeSet<Uuid>>,
    matching: HashMap<Uuid, BTreeSet<FlowId>>,
}

impl Flows {
    /// The flows that are matched to a product, or may be.
    fn touching(&self, product: &Product) -> BTreeSet<FlowId> {
        if self.all.is_empty() {
            return BTreeSet::new();
        }
        let by_folder = product.folder.iter().flat_map(Folder::up).filter_map(|folder| self.by_folder.get(folder));
        let of_block = flow::processing_block(product).into_iter().flat_map(|block| {
            let beginning = format!("{block}:");
            let from = FlowId::stored(beginning.clone());
            self.all.range(from..).map(|(id, _)| id).take_while(move |id| id.as_str().starts_with(&beginning))
        });
        let matching = self.matching.get(&product.uid);
        by_folder.flatten().chain(of_block).chain(matching.into_iter().flatten()).cloned().collect()
    }

    fn put(&mut self, flow: &Flow) {
        self.forget_folders(&flow.id);
        for folder in &flow.folders {
            self.by_folder.entry(folder.clone()).or_default().insert(flow.id.clone());
        }
        self.all.insert(flow.id.clone(), flow.clone());
    }

    fn forget_folders(&mut self, id: &FlowId) {
        for folder in self.all.get(id).into_iter().flat_map(|flow| flow.folders.clone()) {
            if let Some(flows) = self.by_folder.get_mut(&folder) {
                flows.remove(id);
                if flows.is_empty() {
                    self.by_folder.remove(&folder);
                }
            }
        }
    }

    /// Matches a flow to these products, and answers those that it was or is matched to.
    fn set_matched(&mut self, id: &FlowId, products: BTreeSet<Uuid>) -> BTreeSet<Uuid> {
        let before = self.matched.remove(id).unwrap_or_default();
        for gone in before.difference(&products) {
            if let Some(flows) = self.matching.get_mut(gone) {
                flows.remove(id);
                if flows.is_empty() {
                    self.matching.remove(gone);
                }
            }
        }
        for product in &products {
            self.matching.entry(*product).or_default().insert(id.clone());
        }
        let all = before.union(&products).copied().collect();
        if !products.is_empty() {
            self.matched.insert(id.clone(), products);
        }
        all
    }

    /// What a product shows of its flows.
    fn states(&self, product: Uuid) -> Vec<FlowState> {
        let ids = self.matching.get(&product).into_iter().flatten();
        ids.filter_map(|id| self.all.get(id)).map(Flow::state).collect()
    }
}

impl Index {
    pub(super) fn put_flow(&mut self, flow: &Flow) -> Outcome {
        let before = self.flows.all.get(&flow.id);
        if before == Some(flow) {
            return Outcome::Unchanged;
        }
        let outcome = if before.is_some() { Outcome::Updated } else { Outcome::Added };
        self.flows.put(flow);
        self.match_anew([flow.id.clone()].into());
        outcome
    }

    pub(super) fn remove_flow(&mut self, id: &FlowId) -> Outcome {
        if !self.flows.all.contains_key(id) {
            return Outcome::Unchanged;
        }
        self.flows.forget_folders(id);
        self.flows.all.remove(id);
        self.take_out(crate::uid::of_flow(id.as_str()));
        let shown = self.flows.set_matched(id, BTreeSet::new());
        self.show(shown);
        Outcome::Removed
    }

    /// Puts a product in, and sees to it that flows and placeholders follow.
    pub(super) fn put(&mut self, product: &Product, prepared: Option<Prepared>, size: Option<u64>) {
        let mut touched = self.flows.touching(product);
        if !self.flows.all.is_empty()
            && let Some(before) = self.product(product.uid)
        {
            touched.extend(self.flows.touching(&before));
        }
        self.put_in(product, prepared, size);
        self.match_anew(touched);
        if self.flows.states(product.uid) != product.flows {
            self.show([product.uid].into());
        }
    }

    /// Takes a product out, and sees to it that flows and placeholders follow.
    pub(super) fn remove(&mut self, uid: Uuid) {
        let before = if self.flows.all.is_empty() { None } else { self.product(uid) };
        let touched = before.map(|product| self.flows.touching(&product)).unwrap_or_default();
        self.take_out(uid);
        self.match_anew(touched);
    }

    /// Matches flows to products, and writes what that changes.
    fn match_anew(&mut self, flows: BTreeSet<FlowId>) {
        let mut shown = BTreeSet::new();
        for id in flows {
            let Some(flow) = self.flows.all.get(&id).cloned() else { continue };
            let chosen = choose(self.at_and_below(&flow), || self.of_processing_block(id.processing_block()));
            let placeholder = flow.placeholder();
            if !chosen.is_empty() {
                self.take_out(placeholder.uid);
            } else if self.product(placeholder.uid).is_none_or(|product| product != placeholder) {
                self.put_in(&placeholder, None, None);
            }
            shown.extend(self.flows.set_matched(&id, chosen));
        }
        self.show(shown);
    }

    fn of_processing_block(&self, id: &str) -> BTreeSet<Uuid> {
        self.flows.products.slots(id).filter_map(|slot| self.products.get(slot)).map(|product| product.uid).collect()
    }

    /// The products at and below a flow's folder.
    fn at_and_below(&self, flow: &Flow) -> BTreeSet<Uuid> {
        let at = flow.folders.iter().filter_map(|folder| self.files.get(folder)).map(|file| file.uid());
        let below = flow.folders.iter().flat_map(|folder| self.files_below(folder)).map(|(_, file)| file.uid());
        at.chain(below).flatten().collect()
    }

    /// Writes what products show of their flows, where that became something else.
    fn show(&mut self, products: BTreeSet<Uuid>) {
        for uid in products {
            let states = self.flows.states(uid);
            let size = self.products.of_uid(uid).and_then(Slot::size);
            let Some(mut product) = self.product(uid) else { continue };
            if product.flows != states {
                product.flows = states;
                self.put_in(&product, None, size);
            }
        }
    }
}
