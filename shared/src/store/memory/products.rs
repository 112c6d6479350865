//! The products, each in a slot, and the ways to them.

use super::document::Packed;
use chrono::NaiveDate;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

/// A product as it is kept: what is asked of it without reading its document.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Its number in answers.
    pub(super) id: u64,
    pub(super) uid: Uuid,
    /// Which version of it this is: the number that segments know it by.
    pub(super) number: u64,
    /// Its bytes on disk, [`UNKNOWN`] where they are not known.
    size: u64,
    pub(super) document: Packed,
    pub(super) date_created: NaiveDate,
    /// The number of its access rule.
    pub(super) access: i32,
}

const UNKNOWN: u64 = u64::MAX;

impl Slot {
    pub(super) fn new(id: u64, uid: Uuid, date_created: NaiveDate, document: Packed) -> Slot {
        Slot { id, uid, number: 0, size: UNKNOWN, document, date_created, access: 0 }
    }

    pub(super) fn size(&self) -> Option<u64> {
        Some(self.size).filter(|size| *size != UNKNOWN)
    }

    pub(super) fn set_size(&mut self, size: Option<u64>) {
        self.size = size.unwrap_or(UNKNOWN);
    }
}

/// A name in few bytes, whatever its length. Two have the same as often as two files have the same SHA-256, which is never.
pub(super) type Short = [u8; 16];

pub(super) fn short(name: &str) -> Short {
    let mut short = Short::default();
    short.iter_mut().zip(Sha256::digest(name)).for_each(|(own, byte)| *own = byte);
    short
}

/// Which slots belong to names, many to one. Most names have one product, which would make a set for each name large.
#[derive(Debug, Default)]
pub(super) struct Named(BTreeSet<(Short, u32)>);

impl Named {
    pub(super) fn insert(&mut self, name: Short, slot: u32) {
        self.0.insert((name, slot));
    }

    pub(super) fn remove(&mut self, name: Short, slot: u32) {
        self.0.remove(&(name, slot));
    }

    pub(super) fn slots(&self, name: &str) -> impl Iterator<Item = u32> {
        let name = short(name);
        self.0.range((name, 0)..=(name, u32::MAX)).map(|(_, slot)| *slot)
    }
}

/// All products.
#[derive(Debug, Default)]
pub(super) struct Products {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_uid: BTreeMap<Uuid, u32>,
    pub(super) by_block: Named,
    last_id: u64,
}

impl Products {
    /// The slot of a product.
    pub(super) fn find(&self, uid: Uuid) -> Option<u32> {
        self.by_uid.get(&uid).copied()
    }

    /// What is in a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// A product by its uid.
    pub(super) fn of_uid(&self, uid: Uuid) -> Option<&Slot> {
        self.get(self.find(uid)?)
    }

    /// A product in this version, where that is still the one there is.
    pub(super) fn version(&self, slot: u32, number: u64) -> Option<&Slot> {
        self.get(slot).filter(|product| product.number == number)
    }

    /// Makes a slot for a product that is not there yet.
    pub(super) fn add(&mut self, uid: Uuid, date_created: NaiveDate, document: Packed) -> u32 {
        self.last_id += 1;
        let product = Some(Slot::new(self.last_id, uid, date_created, document));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // A product takes more than a byte, and memory holds less than four thousand million of them.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = product;
        }
        self.by_uid.insert(uid, slot);
        slot
    }

    /// Empties a slot.
    pub(super) fn take(&mut self, slot: u32) -> Option<Slot> {
        let product = self.slots.get_mut(slot as usize)?.take()?;
        self.by_uid.remove(&product.uid);
        self.free.push(slot);
        Some(product)
    }
}

/// Versions that are no more, kept while searches that began before may answer them.
///
/// Each search holds on to the generation that was the newest when it began. What is superseded goes to the newest
/// generation there is, and so is needed by searches of that one and of older ones only.
#[derive(Debug)]
pub(super) struct Graveyard(VecDeque<Generation>);

#[derive(Debug, Default)]
struct Generation {
    searches: Arc<()>,
    versions: HashMap<u64, Slot>,
}

/// Keeps what is superseded from now on, until it is dropped.
#[derive(Debug, Clone)]
pub(super) struct Holding(#[expect(dead_code, reason = "it counts")] Arc<()>);

impl Default for Graveyard {
    fn default() -> Graveyard {
        Graveyard([Generation::default()].into())
    }
}

impl Graveyard {
    /// Has all versions that there are now kept.
    pub(super) fn hold(&self) -> Holding {
        Holding(self.0.back().map(|newest| newest.searches.clone()).unwrap_or_default())
    }

    /// Keeps a version that is superseded, where a search may still answer it.
    pub(super) fn bury(&mut self, version: impl FnOnce() -> Slot) {
        let is_free = |generation: &Generation| Arc::strong_count(&generation.searches) == 1;
        while self.0.len() > 1 && self.0.front().is_some_and(is_free) {
            self.0.pop_front();
        }
        let alone = self.0.len() == 1;
        let Some(newest) = self.0.back_mut() else { return };
        let free = is_free(newest);
        if alone && free {
            newest.versions.clear();
            return;
        }
        let version = version();
        newest.versions.insert(version.number, version);
        if !free {
            self.0.push_back(Generation::default());
        }
    }

    /// A version that was superseded.
    pub(super) fn version(&self, number: u64) -> Option<&Slot> {
        self.0.iter().find_map(|generation| generation.versions.get(&number))
    }
}

#[cfg(test)]
impl Graveyard {
    /// How many versions are kept.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|generation| generation.versions.len()).sum()
    }
}
