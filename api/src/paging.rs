//! Pages that follow on each other while products arrive.
//!
//! The grid asks for pages by number, and newest products come first: one that arrives between two requests would push
//! a row from the end of one page to the beginning of the next, where it would be seen again. So it is remembered
//! where each page ended that a caller was given, and the page after it begins there and not at its number. What is not
//! remembered (after a while, after a restart, by another process) is counted off, which is right as long as nothing changes.
//! Who wants it right with several processes sends a [token](crate::page_token).

use shared::query::{Place, Query, SortValue};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use warp::http::{HeaderMap, HeaderValue, header};

/// How long an end is remembered after it was last of use.
const KEPT: Duration = Duration::from_secs(600);
/// How many lists are remembered, and how many ends of each.
const LISTS: usize = 1000;
const ENDS: usize = 200;
/// The longest text that is remembered of an end, in bytes.
const LONGEST: usize = 1000;

/// A list that a caller pages through: his, with its filter, order and size of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct List(u64);

#[derive(Debug)]
struct Ends {
    by_page: BTreeMap<usize, Place>,
    used: Instant,
}

/// Where pages ended.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    hasher: RandomState,
    ends: Mutex<HashMap<List, Ends>>,
}

impl Pages {
    /// The list that a query is a page of.
    pub(crate) fn list(&self, headers: &HeaderMap, query: &Query) -> List {
        let caller = [header::AUTHORIZATION.as_str(), "x-forwarded-for", header::USER_AGENT.as_str()];
        let caller = caller.map(|name| headers.get(name).map(HeaderValue::as_bytes));
        List(self.hasher.hash_one((caller, format!("{:?}", (&query.filter, &query.sort, query.limit)))))
    }

    /// Lets a query for this page begin where the page before it ended, where that is known.
    pub(crate) fn follow_on(&self, list: List, page: usize, query: &mut Query) {
        let Some(before) = page.checked_sub(1) else { return };
        if let Some(ends) = self.ends().get_mut(&list).filter(|ends| ends.used.elapsed() < KEPT)
            && let Some(end) = ends.by_page.get(&before)
        {
            ends.used = Instant::now();
            query.after = Some(end.clone());
            query.offset = 0;
        }
    }

    /// Remembers where a page ended. The ends of those after it do not follow on it any more.
    pub(crate) fn remember(&self, list: List, page: usize, end: Place) {
        if end.values.iter().flatten().any(|value| matches!(value, SortValue::Text(text) if text.len() > LONGEST)) {
            return;
        }
        let mut all = self.ends();
        if all.len() >= LISTS {
            all.retain(|_, ends| ends.used.elapsed() < KEPT);
            let oldest = all.iter().min_by_key(|(_, ends)| ends.used).map(|(list, _)| *list);
            oldest.filter(|_| all.len() >= LISTS).map(|list| all.remove(&list));
        }
        let ends = all.entry(list).or_insert_with(|| Ends { by_page: BTreeMap::new(), used: Instant::now() });
        ends.used = Instant::now();
        ends.by_page.split_off(&page);
        ends.by_page.insert(page, end);
        if ends.by_page.len() > ENDS {
            ends.by_page.pop_first();
        }
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<List, Ends>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
