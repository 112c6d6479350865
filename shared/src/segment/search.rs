//! A search, segment by segment: how many match in all, and which of them are on the page.

use super::matches::Look;
use super::order::Order;
use super::question::Question;
use super::read::Numbers;
use super::{Result, Segment};
use crate::query::Place;
use fixedbitset::FixedBitSet;
use std::cmp::Ordering;

/// From which offset on a [`Sampler`] looks first where about the page begins, so that not all before it have to be
/// kept.
const DEEP: usize = if cfg!(test) { 8 } else { 10_000 };
/// Every so many matches a sampler notes one.
const STEP: usize = if cfg!(test) { 3 } else { 512 };

/// What looks at segments: one looks at them all, or clones of it look at some each and are then joined.
pub trait Pass: Clone + Send + 'static {
    /// Looks at a segment.
    ///
    /// # Errors
    /// See [`Failed`](super::Failed).
    fn add(&mut self, question: &Question, segment: &Segment<'_>, given_up: &dyn Fn() -> bool) -> Result<()>;

    /// Takes in what another found in other segments.
    fn join(&mut self, question: &Question, other: Self);
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How many match.
    pub total: usize,
    /// The numbers of those on the page, in order.
    pub numbers: Vec<u64>,
}

/// Where the search for a page begins.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// After this place.
    after: Option<Place>,
    /// How many matches there are up to there that were to be passed over: so many at least,
    at_least: usize,
    /// and how many after the place that the query itself begins at, where a sampler counted them.
    counted: Option<usize>,
}

/// Finds out where about a page begins that is far from the beginning, in the memory of a few places: a first look at all
/// segments.
///
/// Of each segment's matches every [`STEP`]th in order is noted. So before a noted place are at least as many matches
/// as places were noted up to it, times the step; and in each segment less than a step more than that.
#[derive(Debug, Clone, Default)]
pub struct Sampler {
    places: Vec<Place>,
    segments: usize,
    counted: usize,
}

impl Sampler {
    /// One for a question; `None` where its page is near enough to the beginning.
    pub fn new(question: &Question) -> Option<Sampler> {
        let far = question.query.offset > DEEP && question.query.limit > 0 && question.first.is_none();
        far.then(Sampler::default)
    }

    /// Where the search may begin.
    pub fn finish(mut self, question: &Question) -> Start {
        let query = &question.query;
        self.places.sort_by(|a, b| query.compare(a, b));
        // So many places are surely followed by all that is on the page.
        let sure = query.offset.saturating_sub(self.segments * (STEP - 1)) / STEP;
        let Some(last) = sure.min(self.places.len()).checked_sub(1) else { return Start::default() };
        let after = self.places.swap_remove(last);
        Start { after: Some(after), at_least: (last + 1) * STEP, counted: Some(self.counted) }
    }
}

impl Pass for Sampler {
    fn add(&mut self, question: &Question, segment: &Segment<'_>, given_up: &dyn Fn() -> bool) -> Result<()> {
        let mut matches = Look { segment, given_up }.matches(question)?;
        if matches.is_clear() {
            return Ok(());
        }
        let order = Order::of(segment, question)?;
        if let Some(after) = &question.query.after {
            order.after(&mut matches, after);
        }
        let ordered = order.first(&matches, usize::MAX);
        self.counted += ordered.len();
        self.segments += 1;
        self.places.extend(ordered.chunks_exact(STEP).map(|step| order.place(step[STEP - 1])));
        Ok(())
    }

    fn join(&mut self, _: &Question, other: Sampler) {
        self.places.extend(other.places);
        self.segments += other.segments;
        self.counted += other.counted;
    }
}

/// A search in the making.
#[derive(Debug, Clone)]
pub struct Search {
    start: Start,
    total: usize,
    /// How many come after where it begins.
    after: usize,
    /// How many candidates could be on the page, with all before it.
    keep: usize,
    best: Vec<Candidate>,
}

#[derive(Debug, Clone)]
struct Candidate {
    /// Whether it is one of those that come first whatever the order.
    first: bool,
    place: Place,
    number: u64,
}

impl Search {
    /// One that begins at the query's own beginning, or where a [`Sampler`] says.
    pub fn new(question: &Question, start: Option<Start>) -> Search {
        let query = &question.query;
        let mut start = start.unwrap_or_default();
        let before = query.offset.saturating_sub(start.at_least);
        let keep = if query.limit == 0 { 0 } else { before.saturating_add(query.limit) };
        start.after = start.after.or_else(|| query.after.clone());
        Search { start, total: 0, after: 0, keep, best: Vec::new() }
    }

    /// Keeps the best candidates.
    fn choose(&mut self, question: &Question) {
        self.best.sort_by(|a, b| compare(question, a, b));
        self.best.truncate(self.keep);
    }

    fn offer(&mut self, order: &Order<'_>, numbers: Numbers<'_>, places: &FixedBitSet, first: bool) {
        for place in order.first(places, self.keep) {
            self.best.push(Candidate { first, place: order.place(place), number: numbers.at(place) });
        }
    }

    /// The answer.
    pub fn finish(self, question: &Question) -> Found {
        let query = &question.query;
        // What is before the place that it began at was passed over.
        let passed = self.start.counted.map_or(0, |counted| counted - self.after);
        let page = self.best.into_iter().skip(query.offset.saturating_sub(passed)).take(query.limit);
        Found { total: self.total, numbers: page.map(|candidate| candidate.number).collect() }
    }
}

impl Pass for Search {
    fn add(&mut self, question: &Question, segment: &Segment<'_>, given_up: &dyn Fn() -> bool) -> Result<()> {
        let look = Look { segment, given_up };
        let mut matches = look.matches(question)?;
        let count = matches.count_ones(..);
        self.total += count;
        if count == 0 || self.keep == 0 {
            return Ok(());
        }
        let order = Order::of(segment, question)?;
        if let Some(after) = &self.start.after {
            order.after(&mut matches, after);
        }
        self.after += matches.count_ones(..);
        let (front, rest) = match &question.first {
            None => (None, matches),
            Some(first) => {
                let mut front = look.holds(first)?;
                front.intersect_with(&matches);
                matches.difference_with(&front);
                (Some(front), matches)
            }
        };
        let numbers = segment.numbers()?;
        let front = front.unwrap_or_default();
        self.offer(&order, numbers, &front, true);
        self.offer(&order, numbers, &rest, false);
        self.choose(question);
        Ok(())
    }

    fn join(&mut self, question: &Question, other: Search) {
        self.total += other.total;
        self.after += other.after;
        self.best.extend(other.best);
        self.choose(question);
    }
}

fn compare(question: &Question, a: &Candidate, b: &Candidate) -> Ordering {
    b.first.cmp(&a.first).then_with(|| question.query.compare(&a.place, &b.place))
}
