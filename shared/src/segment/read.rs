//! Segments as they are read: pages, and the columns in them.

use super::bytes::{Numbers as Packed, Reader, unpacked};
use super::column::Column;
use super::{ACCESS, BY_UID, DAYS, Failed, NUMBERS, Result, UIDS};
use fixedbitset::FixedBitSet;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// Some columns of a segment, as they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The lowest key of a column in it.
    pub first: i32,
    /// The highest.
    pub last: i32,
    /// The columns, compressed.
    pub bytes: Vec<u8>,
}

impl Page {
    /// The column of a key as it is kept; `None` where there is none.
    fn find(&self, key: i32) -> Result<Option<&[u8]>> {
        let mut reader = Reader(&self.bytes);
        let count = reader.count()?;
        let (mut begin, mut found) = (0usize, None);
        for _ in 0..count {
            let (own, length) = (reader.signed()?, reader.count()?);
            if own == i64::from(key) {
                found = Some((begin, length));
            }
            begin = begin.checked_add(length).ok_or(Failed::Damaged)?;
        }
        let Some((begin, length)) = found else { return Ok(None) };
        reader.take(begin)?;
        reader.take(length).map(Some)
    }

    /// The keys of its columns.
    pub(super) fn keys(&self) -> Result<Vec<i32>> {
        let mut reader = Reader(&self.bytes);
        let count = reader.count()?;
        let mut keys = Vec::new();
        for _ in 0..count {
            keys.push(i32::try_from(reader.signed()?).map_err(|_| Failed::Damaged)?);
            reader.number()?;
        }
        Ok(keys)
    }
}

/// A segment, as far as it is needed: those of its pages in which a search looks.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    /// How many versions of products it has.
    pub products: usize,
    /// Pages, in the order of their keys.
    pub pages: &'a [Arc<Page>],
    /// The numbers of versions that are no more, in order; there may be others among them.
    pub superseded: &'a [u64],
}

impl Segment<'_> {
    /// The columns of a key as they are kept.
    fn find(&self, key: i32) -> Result<Option<&[u8]>> {
        let page = self.pages.partition_point(|page| page.last < key);
        match self.pages.get(page) {
            Some(page) if page.first <= key => page.find(key),
            _ => Ok(None),
        }
    }

    fn own(&self, key: i32) -> Result<Cow<'_, [u8]>> {
        unpacked(self.find(key)?.ok_or(Failed::Damaged)?)
    }

    /// The column of a key; `None` where no product has it.
    pub(super) fn column(&self, key: i32) -> Result<Option<Column<'_>>> {
        self.find(key)?.map(|bytes| Column::decode(unpacked(bytes)?)).transpose()
    }

    /// The keys of all leaves.
    pub(super) fn keys(&self) -> Result<Vec<i32>> {
        let mut keys = Vec::new();
        for page in self.pages {
            keys.extend(page.keys()?.into_iter().filter(|key| *key >= 0));
        }
        Ok(keys)
    }

    /// The numbers of the versions at all places.
    pub(super) fn numbers(&self) -> Result<Numbers<'_>> {
        let mut reader = Reader(self.find(NUMBERS)?.ok_or(Failed::Damaged)?);
        let least = reader.take(8)?.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        match reader.take(1)?[0] {
            4 => Ok(Numbers { least, width: 4, bytes: reader.0 }),
            8 => Ok(Numbers { least, width: 8, bytes: reader.0 }),
            _ => Err(Failed::Damaged),
        }
    }

    /// The uids at all places.
    pub(super) fn uids(&self) -> Result<Uids<'_>> {
        self.find(UIDS)?.map(Uids).ok_or(Failed::Damaged)
    }

    /// The place that each product would have by its uid.
    pub(super) fn by_uid(&self) -> Result<Vec<u32>> {
        Reader(&self.own(BY_UID)?).all(self.products).map(Packed::to_vec)
    }

    /// The days of the products.
    pub(super) fn days(&self) -> Result<Days> {
        let bytes = self.own(DAYS)?;
        let mut reader = Reader(&bytes);
        let (mut days, mut end) = (Vec::new(), 0usize);
        while !reader.0.is_empty() {
            let day = i32::try_from(reader.signed()?).map_err(|_| Failed::Damaged)?;
            end = end.checked_add(reader.count()?).ok_or(Failed::Damaged)?;
            days.push((end, day));
        }
        if end == self.products { Ok(Days(days)) } else { Err(Failed::Damaged) }
    }

    /// The access rules of the products.
    pub(super) fn access(&self) -> Result<Guards> {
        let bytes = self.own(ACCESS)?;
        let mut reader = Reader(&bytes);
        let (count, most) = (reader.count()?, reader.count()?);
        let rule = |reader: &mut Reader<'_>| i32::try_from(reader.signed()?).map_err(|_| Failed::Damaged);
        let rules: Vec<i32> = (0..count).map(|_| rule(&mut reader)).collect::<Result<_>>()?;
        let others = reader.count()?;
        let others: Vec<(u32, u32)> = reader.rising(others)?.into_iter().zip(reader.all(others)?.to_vec()).collect();
        let is_rule = |rule: usize| rule < rules.len();
        let is_there = |(place, rule): &(u32, u32)| (*place as usize) < self.products && is_rule(*rule as usize);
        let sound = is_rule(most) && others.iter().all(is_there);
        if sound { Ok(Guards { rules, most, others }) } else { Err(Failed::Damaged) }
    }
}

/// The access rules of a segment's products.
pub(super) struct Guards {
    rules: Vec<i32>,
    /// The rule that most products have.
    most: usize,
    /// The places of the others, in order, and the rule of each.
    others: Vec<(u32, u32)>,
}

impl Guards {
    /// Leaves those of places that one of these rules guards.
    pub(super) fn narrow(&self, allowed: &BTreeSet<i32>, places: &mut FixedBitSet) {
        let passes: Vec<bool> = self.rules.iter().map(|rule| allowed.contains(rule)).collect();
        if !passes[self.most] {
            let all = std::mem::replace(places, FixedBitSet::with_capacity(places.len()));
            let others = self.others.iter().filter(|(place, rule)| passes[*rule as usize] && all[*place as usize]);
            return places.extend(others.map(|(place, _)| *place as usize));
        }
        let refused = self.others.iter().filter(|(_, rule)| !passes[*rule as usize]);
        refused.for_each(|(place, _)| places.remove(*place as usize));
    }

    /// The rules at all places of so many.
    pub(super) fn of_each(&self, products: usize) -> Vec<i32> {
        let mut each = vec![self.rules[self.most]; products];
        self.others.iter().for_each(|(place, rule)| each[*place as usize] = self.rules[*rule as usize]);
        each
    }
}

/// The numbers of a segment's versions.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    pub(super) least: u64,
    width: usize,
    bytes: &'a [u8],
}

impl Numbers<'_> {
    pub(super) fn at(&self, place: usize) -> u64 {
        self.least + self.bytes.get(place * self.width..(place + 1) * self.width).map_or(0, number)
    }

    /// How much more than the least each is.
    pub(super) fn above_least(&self) -> impl Iterator<Item = u64> {
        self.bytes.chunks_exact(self.width).map(number)
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// The uids of a segment's products.
#[derive(Clone, Copy)]
pub(super) struct Uids<'a>(&'a [u8]);

impl Uids<'_> {
    pub(super) fn at(&self, place: usize) -> Uuid {
        self.0.as_chunks().0.get(place).map_or(Uuid::nil(), |bytes| Uuid::from_bytes(*bytes))
    }
}

/// The days of a segment's products, which stand in their order: where each run of the same day ends.
pub(super) struct Days(Vec<(usize, i32)>);

impl Days {
    /// In days since 0000-12-31.
    pub(super) fn at(&self, place: usize) -> i32 {
        let run = self.0.partition_point(|(end, _)| *end <= place);
        self.0.get(run).map_or(0, |(_, day)| *day)
    }
}
