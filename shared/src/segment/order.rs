//! The order of a segment's products.

use super::Result;
use super::column::{Column, partition_point};
use super::question::{Question, SortKeys};
use super::read::{Days, Segment, Uids};
use crate::query::{Place, Sort, SortValue};
use chrono::{Datelike, NaiveDate};
use fixedbitset::FixedBitSet;
use std::cmp::Ordering;

/// What a product without a value has as its key: it comes last, whichever way.
const ABSENT: u32 = u32::MAX;

/// The order in which a question wants a segment's products.
pub(super) struct Order<'a> {
    question: &'a Question,
    uids: Uids<'a>,
    days: Days,
    /// Where each product would be by its uid. Not there where nothing is sorted by: then the segment's own order is the
    /// one that is wanted.
    by_uid: Vec<u32>,
    sorts: Vec<Ranked<'a>>,
}

/// A segment's products under one sort.
struct Ranked<'a> {
    columns: Vec<Column<'a>>,
    /// All values of several columns in order, as a column and an entry of it. With one column these are its entries.
    values: Option<Vec<(usize, usize)>>,
    descending: bool,
    /// What each product is ordered by: where its value is among all, counted from the end that comes first.
    keys: Vec<u32>,
}

impl<'a> Order<'a> {
    pub(super) fn of(segment: &'a Segment<'a>, question: &'a Question) -> Result<Order<'a>> {
        let sorts = question.sort.iter().map(|sort| Ranked::of(segment, sort)).collect::<Result<_>>()?;
        let by_uid = if question.sort.is_empty() { Vec::new() } else { segment.by_uid()? };
        Ok(Order { question, uids: segment.uids()?, days: segment.days()?, by_uid, sorts })
    }

    /// The first of these places in order, at most `count`.
    pub(super) fn first(&self, places: &FixedBitSet, count: usize) -> Vec<usize> {
        if self.sorts.is_empty() {
            return places.ones().take(count).collect();
        }
        let mut places: Vec<usize> = places.ones().collect();
        if count < places.len() {
            places.select_nth_unstable_by(count, |a, b| self.compare(*a, *b));
            places.truncate(count);
        }
        places.sort_unstable_by(|a, b| self.compare(*a, *b));
        places
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let by_value = self.sorts.iter().map(|sort| sort.keys[a].cmp(&sort.keys[b])).find(|order| order.is_ne());
        by_value.unwrap_or_else(|| self.by_uid[a].cmp(&self.by_uid[b]))
    }

    /// The place of a product in the order of all.
    pub(super) fn place(&self, place: usize) -> Place {
        Place {
            values: self.sorts.iter().map(|sort| sort.value(place)).collect(),
            date_created: NaiveDate::from_num_days_from_ce_opt(self.days.at(place)).unwrap_or_default(),
            uid: self.uids.at(place),
        }
    }

    /// Leaves those of the places that come after one.
    pub(super) fn after(&self, places: &mut FixedBitSet, after: &Place) {
        if self.sorts.is_empty() {
            let day = after.date_created.num_days_from_ce();
            let end = partition_point(0..places.len(), |place| {
                let own = self.days.at(place);
                own > day || own == day && self.uids.at(place) <= after.uid
            });
            return places.remove_range(..end);
        }
        let bounds: Vec<(u64, u64)> = self
            .sorts
            .iter()
            .zip(&self.question.query.sort)
            .zip(&after.values)
            .map(|((ranked, sort), value)| ranked.bounds(sort, value.as_ref()))
            .collect();
        let is_after = |place: usize| {
            for (sort, (begin, end)) in self.sorts.iter().zip(&bounds) {
                let key = u64::from(sort.keys[place]);
                if key < *begin || key >= *end {
                    return key >= *end;
                }
            }
            self.uids.at(place) > after.uid
        };
        let gone: Vec<usize> = places.ones().filter(|place| !is_after(*place)).collect();
        gone.into_iter().for_each(|place| places.remove(place));
    }
}

impl<'a> Ranked<'a> {
    fn of(segment: &'a Segment<'a>, sort: &SortKeys) -> Result<Ranked<'a>> {
        let mut columns = Vec::new();
        for key in &sort.keys {
            columns.extend(segment.column(*key)?);
        }
        let mut ranked = Ranked { columns, values: None, descending: sort.descending, keys: Vec::new() };
        let ranks = ranked.ranks();
        let mut keys = vec![ABSENT; segment.products];
        for (column, ranks) in ranked.columns.iter().zip(&ranks) {
            column.each(|place, entry| {
                let rank = if ranks.is_empty() { column.rank(entry) } else { ranks[entry as usize] };
                if let Some(key) = keys.get_mut(place as usize) {
                    // The least of several values counts, and the least key where the least value is first.
                    *key = rank.min(*key);
                }
            })?;
        }
        if sort.descending {
            let last = ranked.len() as u32;
            keys.iter_mut().filter(|key| **key != ABSENT).for_each(|key| *key = last - 1 - *key);
        }
        ranked.keys = keys;
        Ok(ranked)
    }

    /// Puts the values of several columns in one order, and answers which place each entry of each has in it; nothing where
    /// the entries of the only column are in order by themselves.
    fn ranks(&mut self) -> Vec<Vec<u32>> {
        if self.columns.len() <= 1 {
            return vec![Vec::new(); self.columns.len()];
        }
        let entries = self.columns.iter().enumerate().flat_map(|(n, column)| (0..column.len()).map(move |e| (n, e)));
        let mut values: Vec<(SortValue, usize, usize)> =
            entries.map(|(column, entry)| (self.columns[column].value(entry), column, entry)).collect();
        values.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let mut ranks: Vec<Vec<u32>> = self.columns.iter().map(|column| vec![0; column.len()]).collect();
        let mut first = 0;
        for n in 0..values.len() {
            if values[n].0 != values[first].0 {
                first = n;
            }
            ranks[values[n].1][values[n].2] = first as u32;
        }
        self.values = Some(values.into_iter().map(|(_, column, entry)| (column, entry)).collect());
        ranks
    }

    /// How many values there are.
    fn len(&self) -> usize {
        match &self.values {
            Some(values) => values.len(),
            None => self.columns.first().map_or(0, Column::len),
        }
    }

    /// The value at a place among all, from the least on.
    fn at(&self, rank: usize) -> SortValue {
        match &self.values {
            Some(values) => self.columns[values[rank].0].value(values[rank].1),
            None => self.columns[0].value(rank),
        }
    }

    /// What the product at a place is ordered by.
    fn value(&self, place: usize) -> Option<SortValue> {
        let key = self.keys[place];
        (key != ABSENT).then(|| self.at(if self.descending { self.len() - 1 - key as usize } else { key as usize }))
    }

    /// The keys of products whose value is this one, from the first to before the last.
    fn bounds(&self, sort: &Sort, value: Option<&SortValue>) -> (u64, u64) {
        let Some(value) = value else { return (u64::from(ABSENT), u64::from(ABSENT) + 1) };
        let all = 0..self.len();
        let key = |rank: usize| if self.descending { self.len() - 1 - rank } else { rank };
        let compare = |n: usize| sort.compare(Some(&self.at(key(n))), Some(value));
        let begin = partition_point(all.clone(), |n| compare(n).is_lt());
        let end = partition_point(all, |n| compare(n).is_le());
        (begin as u64, end as u64)
    }
}
