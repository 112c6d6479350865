//! Which products of a segment match.

use super::question::{Condition, Keys, Question};
use super::{Failed, Result, Segment};
use crate::filter::Test;
use fixedbitset::FixedBitSet;
use std::collections::{BTreeSet, HashSet};

/// A set of numbers takes a bit for each from the least to the largest where these are at most so many times the products
/// of a segment.
const SPARSE: u64 = 64;

/// A segment, and the question whether anybody still waits.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) segment: &'a Segment<'a>,
    pub(super) given_up: &'a dyn Fn() -> bool,
}

/// Those of these keys under which a product has a leaf, one that is not superseded.
///
/// # Errors
/// See [`Failed`].
pub fn used(segment: &Segment<'_>, keys: &BTreeSet<i32>) -> Result<Vec<i32>> {
    let look = Look { segment, given_up: &|| false };
    if segment.products == 0 {
        return Ok(Vec::new());
    }
    let mut gone = look.none();
    if !segment.superseded.is_empty() {
        gone = look.numbered(segment.superseded)?;
    }
    let mut used = Vec::new();
    for key in keys {
        if !look.any(&[*key], &Test::Present)?.is_subset(&gone) {
            used.push(*key);
        }
    }
    Ok(used)
}

impl Look<'_> {
    /// The places of the products that match and may be seen.
    pub(super) fn matches(&self, question: &Question) -> Result<FixedBitSet> {
        if self.segment.products == 0 {
            // There need not be any pages.
            return Ok(self.none());
        }
        let mut matches = self.visible(&question.allowed)?;
        self.narrow(&mut matches, &question.filter)?;
        Ok(matches)
    }

    /// Leaves those for which a condition holds.
    fn narrow(&self, places: &mut FixedBitSet, condition: &Condition) -> Result<()> {
        if let Condition::And(all) = condition {
            return all.iter().try_for_each(|condition| self.narrow(places, condition));
        }
        if places.is_clear() {
            return Ok(());
        }
        places.intersect_with(&self.holds(condition)?);
        Ok(())
    }

    /// The products that one of these rules guards, less those that are superseded.
    fn visible(&self, allowed: &BTreeSet<i32>) -> Result<FixedBitSet> {
        let mut visible = self.none();
        visible.insert_range(..);
        self.segment.access()?.narrow(allowed, &mut visible);
        if !self.segment.superseded.is_empty() {
            visible.difference_with(&self.numbered(self.segment.superseded)?);
        }
        Ok(visible)
    }

    fn none(&self) -> FixedBitSet {
        FixedBitSet::with_capacity(self.segment.products)
    }

    /// The products for which a condition holds, whoever may see them.
    pub(super) fn holds(&self, condition: &Condition) -> Result<FixedBitSet> {
        match condition {
            Condition::And(all) => {
                let mut places = self.none();
                places.insert_range(..);
                all.iter().try_for_each(|condition| self.narrow(&mut places, condition))?;
                Ok(places)
            }
            Condition::Or(any) => {
                let mut places = self.none();
                for condition in any {
                    places.union_with(&self.holds(condition)?);
                }
                Ok(places)
            }
            Condition::Not(condition) => {
                let mut places = self.holds(condition)?;
                places.toggle_range(..);
                Ok(places)
            }
            Condition::Any(Keys::These(keys), test) => self.any(keys, test),
            Condition::Any(Keys::All, test) => self.any(&self.segment.keys()?, test),
            Condition::Numbers(numbers) => self.numbered(numbers),
        }
    }

    fn any(&self, keys: &[i32], test: &Test) -> Result<FixedBitSet> {
        let mut places = self.none();
        for key in keys {
            if (self.given_up)() {
                return Err(Failed::GivenUp);
            }
            if let Some(column) = self.segment.column(*key)? {
                column.add(&column.passing(test), &mut places)?;
            }
        }
        Ok(places)
    }

    /// The products whose versions have one of these numbers, which are in order.
    fn numbered(&self, wanted: &[u64]) -> Result<FixedBitSet> {
        let own = self.segment.numbers()?;
        let most = own.above_least().max().unwrap_or_default();
        let from = wanted.partition_point(|number| *number < own.least);
        let to = wanted.partition_point(|number| *number <= own.least + most);
        let wanted = wanted[from..to].iter().map(|number| number - own.least);
        let mut places = self.none();
        if wanted.len() == 0 {
            return Ok(places);
        }
        let mut add = |is_wanted: &dyn Fn(u64) -> bool| {
            places
                .extend((0..).zip(own.above_least()).filter(|(_, number)| is_wanted(*number)).map(|(place, _)| place));
        };
        if most < SPARSE * self.segment.products as u64 {
            let set: FixedBitSet = wanted.map(|number| number as usize).collect();
            add(&|number| set.contains(number as usize));
        } else {
            let set: HashSet<u64> = wanted.collect();
            add(&|number| set.contains(&number));
        }
        Ok(places)
    }
}
