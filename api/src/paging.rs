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
/// How many bytes all that is remembered may come to, and what an end and each of its values takes beside its text.
const MEMORY: usize = 32 * 1024 * 1024;
const OVERHEAD: usize = 64;

/// A list that a caller pages through: his, with its filter, order and size of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct List(u64);

#[derive(Debug)]
struct Ends {
    by_page: BTreeMap<usize, Place>,
    used: Instant,
}

impl Ends {
    /// How many bytes they take.
    fn bytes(&self) -> usize {
        OVERHEAD + self.by_page.values().map(bytes).sum::<usize>()
    }
}

fn bytes(end: &Place) -> usize {
    let text = |value: &Option<SortValue>| match value {
        Some(SortValue::Text(text)) => text.capacity(),
        _ => 0,
    };
    OVERHEAD + end.values.iter().map(|value| OVERHEAD + text(value)).sum::<usize>()
}

#[derive(Debug, Default)]
struct Remembered {
    lists: HashMap<List, Ends>,
    bytes: usize,
}

/// Where pages ended.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    hasher: RandomState,
    ends: Mutex<Remembered>,
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
        if let Some(ends) = self.ends().lists.get_mut(&list).filter(|ends| ends.used.elapsed() < KEPT)
            && let Some(end) = ends.by_page.get(&before)
        {
            ends.used = Instant::now();
            query.after = Some(end.clone());
            query.offset = 0;
        }
    }

    /// Remembers where a page ended. The ends of those after it do not follow on it any more. Where that is too much to
    /// remember, the list goes that was of no use for longest.
    pub(crate) fn remember(&self, list: List, page: usize, end: Place) {
        if end.values.iter().flatten().any(|value| matches!(value, SortValue::Text(text) if text.len() > LONGEST)) {
            return;
        }
        let mut all = self.ends();
        let before = all.lists.remove(&list);
        all.bytes -= before.as_ref().map_or(0, Ends::bytes);
        let mut ends = before.unwrap_or_else(|| Ends { by_page: BTreeMap::new(), used: Instant::now() });
        ends.used = Instant::now();
        ends.by_page.split_off(&page);
        ends.by_page.insert(page, end);
        if ends.by_page.len() > ENDS {
            ends.by_page.pop_first();
        }
        all.bytes += ends.bytes();
        while all.lists.len() >= LISTS || all.bytes > MEMORY {
            let oldest = all.lists.iter().min_by_key(|(_, ends)| ends.used).map(|(list, _)| *list);
            let Some(oldest) = oldest.and_then(|list| all.lists.remove(&list)) else { break };
            all.bytes -= oldest.bytes();
        }
        all.lists.insert(list, ends);
    }

    fn ends(&self) -> MutexGuard<'_, Remembered> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_in_bytes() {
        let pages = Pages::default();
        let end = || Place {
            values: (0..16).map(|_| Some(SortValue::Text("x".repeat(LONGEST)))).collect(),
            date_created: Default::default(),
            uid: Default::default(),
        };
        for list in 0..20 {
            for page in 0..ENDS {
                pages.remember(List(list), page, end());
            }
        }
        let all = pages.ends();
        assert_eq!(all.bytes, all.lists.values().map(Ends::bytes).sum::<usize>());
        assert!(all.bytes <= MEMORY && all.bytes > MEMORY / 2, "{}", all.bytes);
        assert!(all.lists.contains_key(&List(19)) && !all.lists.contains_key(&List(0)));
        drop(all);
        // One that is begun anew forgets what came after it.
        pages.remember(List(19), 0, end());
        assert_eq!(pages.ends().lists[&List(19)].by_page.len(), 1);
    }
}
