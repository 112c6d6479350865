//! What searches read: segments of products, and the newest products that are in none yet.

use super::index::Index;
use super::names::KeyNames;
use super::products::Holding;
use crate::product::Product;
use crate::row::{self, Leaf};
use crate::segment::{
    self, Builder, Doc, Failed, Found, MAX_BYTES, MAX_PRODUCTS, Merged, Page, Pass, Question, Sampler, Search, Segment,
    Size, Tiers,
};
use chrono::NaiveDate;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use tracing::error;
use uuid::Uuid;

/// When segments are made.
#[derive(Debug, Clone, Copy)]
pub struct Sealing {
    /// While there are searches, which read the products that are in no segment more slowly than others.
    pub searched: Waiting,
    /// While there are none, as when everything is indexed at first: large ones, made from large ones, cost less.
    pub unsearched: Waiting,
    /// When segments become one.
    pub tiers: Tiers,
}

/// How many leaves there may be of products that are in no segment, some hundred bytes each; then none is left out.
pub(super) const MOST_LEAVES: usize = 500_000;

/// How many products are in no segment.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// So many of the newest are left out: those are the ones that change, for they are measured, and flows come to them.
    pub leave: usize,
    /// When there are so many more, a segment is made of these.
    pub seal: usize,
}

impl Default for Sealing {
    fn default() -> Sealing {
        Sealing {
            searched: Waiting { leave: 64, seal: 128 },
            unsearched: Waiting { leave: 1024, seal: 2048 },
            tiers: Tiers::default(),
        }
    }
}

impl Sealing {
    /// When it is time now.
    pub(super) fn now(&self, searched: bool) -> Waiting {
        if searched { self.searched } else { self.unsearched }
    }
}

impl Waiting {
    /// How many products a segment is to be made of now, the oldest of those that wait.
    pub(super) fn due(self, tail: &Tail) -> Option<usize> {
        let products = tail.products.len();
        if tail.leaves > MOST_LEAVES {
            return Some(products);
        }
        products.checked_sub(self.leave).filter(|count| *count >= self.seal.max(1))
    }
}

/// A product that is in no segment yet.
#[derive(Debug)]
pub(super) struct Unsealed {
    pub(super) slot: u32,
    pub(super) uid: Uuid,
    pub(super) date_created: NaiveDate,
    pub(super) access: i32,
    pub(super) leaves: Box<[Leaf<i32>]>,
}

impl Unsealed {
    fn doc(&self, number: u64) -> Doc<'_> {
        let Unsealed { uid, date_created, access, leaves, .. } = self;
        Doc { number, uid: *uid, date_created: *date_created, access: *access, leaves }
    }
}

/// The products that are in no segment yet, by number. A copy costs nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    pub(super) products: imbl::OrdMap<u64, Arc<Unsealed>>,
    /// How many leaves they have.
    pub(super) leaves: usize,
    /// The segment that the first search makes of them, for the others until they change.
    segment: Arc<OnceLock<Vec<Arc<Page>>>>,
}

impl Tail {
    pub(super) fn insert(&mut self, number: u64, product: Arc<Unsealed>) {
        self.leaves += product.leaves.len();
        self.products.insert(number, product);
        self.segment = Arc::default();
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Arc<Unsealed>> {
        let removed = self.products.remove(&number)?;
        self.leaves -= removed.leaves.len();
        self.segment = Arc::default();
        Some(removed)
    }

    fn pages(&self) -> &[Arc<Page>] {
        self.segment.get_or_init(|| pages(self.products.iter().map(|(number, product)| product.doc(*number))))
    }
}

fn pages<'a>(docs: impl Iterator<Item = Doc<'a>>) -> Vec<Arc<Page>> {
    let mut builder = Builder::new();
    docs.for_each(|doc| builder.push(&doc));
    builder.finish().into_iter().map(Arc::new).collect()
}

/// A segment, and where its products are.
#[derive(Debug)]
pub(super) struct Sealed {
    pages: Vec<Arc<Page>>,
    /// The numbers of its versions, in order, and the slots that the products were in.
    numbers: Box<[u64]>,
    slots: Box<[u32]>,
    /// What it took in memory to make it.
    bytes: usize,
}

impl Sealed {
    fn slot(&self, number: u64) -> Option<u32> {
        let place = self.numbers.binary_search(&number).ok()?;
        self.slots.get(place).copied()
    }
}

/// A segment, and which versions in it are no more.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) sealed: Arc<Sealed>,
    superseded: Arc<Vec<u64>>,
}

impl Part {
    fn products(&self) -> usize {
        self.sealed.numbers.len()
    }

    fn size(&self) -> Size {
        Size { products: self.products(), bytes: self.sealed.bytes, dead: self.superseded.len() }
    }

    /// The versions in it that are still there, and their slots.
    fn live(&self) -> impl Iterator<Item = (u64, u32)> {
        let all = self.sealed.numbers.iter().copied().zip(self.sealed.slots.iter().copied());
        all.filter(|(number, _)| self.superseded.binary_search(number).is_err())
    }

    fn segment(&self) -> Segment<'_> {
        Segment { products: self.products(), pages: &self.sealed.pages, superseded: &self.superseded }
    }
}

/// All that a search reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Segments {
    /// In the order of their numbers.
    parts: Vec<Part>,
    pub(super) tail: Tail,
}

impl Segments {
    /// The version of this number is no more. Answers it where it was in no segment.
    pub(super) fn supersede(&mut self, number: u64) -> Option<Arc<Unsealed>> {
        if let Some(unsealed) = self.tail.remove(number) {
            return Some(unsealed);
        }
        if let Some(part) = self.part_of(number).and_then(|part| self.parts.get_mut(part))
            && let Err(place) = part.superseded.binary_search(&number)
        {
            // Copied where a search reads it.
            Arc::make_mut(&mut part.superseded).insert(place, number);
        }
        None
    }

    fn part_of(&self, number: u64) -> Option<usize> {
        self.parts.partition_point(|part| part.sealed.numbers.first() <= Some(&number)).checked_sub(1)
    }

    fn slot(&self, number: u64) -> Option<u32> {
        match self.tail.products.get(&number) {
            Some(unsealed) => Some(unsealed.slot),
            None => self.parts.get(self.part_of(number)?)?.sealed.slot(number),
        }
    }

    /// The oldest of the products that are in no segment, where it is time to make one of them.
    fn to_seal(&self, when: Waiting) -> Option<Vec<(u64, Arc<Unsealed>)>> {
        let count = when.due(&self.tail)?;
        let products = self.tail.products.iter().take(count.min(MAX_PRODUCTS));
        Some(products.map(|(number, product)| (*number, product.clone())).collect())
    }

    /// The segments that are to become one, where it is time.
    fn to_merge(&self, tiers: &Tiers) -> Option<Range<usize>> {
        tiers.choose(&self.parts.iter().map(Part::size).collect::<Vec<_>>())
    }

    /// Puts made segments where others were, or behind all others; what was superseded meanwhile is so in them.
    fn install(&mut self, made: Vec<Sealed>, place: Range<usize>, superseded: &[u64]) {
        let parts = made.into_iter().map(|sealed| {
            let own = superseded.iter().copied().filter(|number| sealed.slot(*number).is_some()).collect();
            Part { superseded: Arc::new(own), sealed: Arc::new(sealed) }
        });
        self.parts.splice(place, parts.collect::<Vec<_>>());
    }
}

/// Makes segments one after the other, each as large as one may be.
#[derive(Default)]
struct Making {
    builder: Builder,
    numbers: Vec<u64>,
    slots: Vec<u32>,
    made: Vec<Sealed>,
}

impl Making {
    fn push(&mut self, slot: u32, doc: &Doc<'_>) {
        if self.builder.products() >= MAX_PRODUCTS || self.builder.bytes() >= MAX_BYTES {
            self.finish();
        }
        self.builder.push(doc);
        self.numbers.push(doc.number);
        self.slots.push(slot);
    }

    fn finish(&mut self) {
        let builder = std::mem::take(&mut self.builder);
        if builder.products() == 0 {
            return;
        }
        self.made.push(Sealed {
            bytes: builder.bytes(),
            pages: kept(builder.finish()),
            numbers: std::mem::take(&mut self.numbers).into(),
            slots: std::mem::take(&mut self.slots).into(),
        });
    }

    fn done(mut self) -> Vec<Sealed> {
        self.finish();
        self.made
    }
}

/// Pages that take no more room than they need.
fn kept(pages: Vec<Page>) -> Vec<Arc<Page>> {
    let kept = |mut page: Page| {
        page.bytes.shrink_to_fit();
        Arc::new(page)
    };
    pages.into_iter().map(kept).collect()
}

/// One who makes segments. There is one at a time.
pub(super) struct Sealer<'a> {
    pub(super) index: &'a std::sync::RwLock<Index>,
    pub(super) sealing: &'a Sealing,
}

impl Sealer<'_> {
    /// Makes a segment of products that are in none, or one of several. False when there is nothing to do.
    pub(super) fn step(&self, searched: bool) -> bool {
        let read = super::lock_read(self.index);
        let to_seal = read.segments.to_seal(self.sealing.now(searched));
        let to_merge = read.segments.to_merge(&self.sealing.tiers);
        drop(read);
        match (to_seal, to_merge) {
            (Some(products), _) => self.seal(&products),
            (None, Some(place)) => {
                if let Err(damaged) = self.merge(place) {
                    // Nothing is known to lead there.
                    error!(error = %damaged, "segments stay as they are");
                    return false;
                }
            }
            (None, None) => return false,
        }
        true
    }

    fn seal(&self, products: &[(u64, Arc<Unsealed>)]) {
        let mut making = Making::default();
        products.iter().for_each(|(number, product)| making.push(product.slot, &product.doc(*number)));
        let made = making.done();
        let mut index = super::lock_write(self.index);
        let segments = &mut index.segments;
        // What is not there any more was superseded meanwhile.
        let mut superseded: Vec<u64> = products.iter().map(|(number, _)| *number).collect();
        superseded.retain(|number| segments.tail.remove(*number).is_none());
        let end = segments.parts.len();
        segments.install(made, end..end, &superseded);
    }

    /// Makes one segment of some, with what is in them still.
    fn merge(&self, place: Range<usize>) -> Result<(), Failed> {
        let parts: Vec<Part> = super::lock_read(self.index).segments.parts[place.clone()].to_vec();
        let Merged { products, bytes, pages } = segment::merge(&parts.iter().map(Part::segment).collect::<Vec<_>>())?;
        let (numbers, slots): (Vec<u64>, Vec<u32>) = parts.iter().flat_map(Part::live).unzip();
        let made = Sealed { bytes, pages: kept(pages), numbers: numbers.into(), slots: slots.into() };
        drop(parts);
        let mut index = super::lock_write(self.index);
        // Nobody else makes segments, so they are still at this place.
        let superseded: Vec<u64> =
            index.segments.parts[place.clone()].iter().flat_map(|part| part.superseded.iter().copied()).collect();
        index.segments.install((products > 0).then_some(made).into_iter().collect(), place, &superseded);
        Ok(())
    }
}

/// A product's leaves under the numbers of their keys.
pub(super) fn leaves(product: &Product, size: Option<u64>, keys: &KeyNames) -> Box<[Leaf<i32>]> {
    let mut leaves = Vec::new();
    row::each_leaf(product, size, &mut |key, value| {
        leaves.push(Leaf { key: keys.number(key), value: value.clone() });
    });
    leaves.into()
}

/// All that a search needs, as it was at one moment.
pub(super) struct Snapshot {
    pub(super) segments: Segments,
    pub(super) question: Question,
    /// What it finds stays there until it is read.
    pub(super) _holding: Holding,
}

impl Snapshot {
    /// The total, and the versions on the page with the slots that they were in.
    pub(super) fn search(&self, given_up: &dyn Fn() -> bool) -> Result<(usize, Vec<(u64, u32)>), Failed> {
        let tail =
            Segment { products: self.segments.tail.products.len(), pages: self.segments.tail.pages(), superseded: &[] };
        let all = || self.segments.parts.iter().map(Part::segment).chain((tail.products > 0).then(|| tail.clone()));
        let question = &self.question;
        let mut start = None;
        if let Some(mut sampler) = Sampler::new(question) {
            all().try_for_each(|segment| sampler.add(question, &segment, given_up))?;
            start = Some(sampler.finish(question));
        }
        let mut search = Search::new(question, start);
        all().try_for_each(|segment| search.add(question, &segment, given_up))?;
        let Found { total, numbers } = search.finish(question);
        let slots = numbers.into_iter().filter_map(|number| Some((number, self.segments.slot(number)?)));
        Ok((total, slots.collect()))
    }
}

#[cfg(test)]
impl Segments {
    /// The versions that a search would find.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let own = |part: &Part| {
            part.sealed.numbers.iter().copied().filter(|number| !part.superseded.contains(number)).collect()
        };
        let sealed: Vec<Vec<u64>> = self.parts.iter().map(own).collect();
        sealed.into_iter().flatten().chain(self.tail.products.keys().copied()).collect()
    }

    /// How many versions are in segments.
    pub(super) fn rows(&self) -> usize {
        self.parts.iter().map(Part::products).sum()
    }

    /// How many segments there are.
    pub(super) fn count(&self) -> usize {
        self.parts.len()
    }
}
