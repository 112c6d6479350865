//! Rows of an answer, fetched and written some at a time: a product takes several times the memory that its row takes as
//! text, and a search may answer ten thousand of them to each of many clients.
//!
//! What follows is searched for by its place after the last row, so that each product that stays is there once, whatever
//! arrives meanwhile. No connection to a database is held while a client reads.

use crate::Api;
use crate::error::Result;
use crate::limits::Lane;
use crate::reply::{self, Response};
use crate::turns::Asker;
use futures::stream;
use serde_json::Value;
use shared::access::Viewer;
use shared::filter::Filter;
use shared::process::slice::TimeSlice;
use shared::query::{Place, Query};
use shared::row::row;
use shared::store::{Hit, StoreError};
use std::collections::VecDeque;
use std::sync::Arc;

/// How many rows are fetched at once.
const PART: usize = 250;

/// The rows that a query answers.
pub(crate) struct Rows {
    api: Arc<Api>,
    viewer: Viewer,
    asker: Asker,
    lane: Lane,
    /// What is still to be asked, one after the other.
    queries: VecDeque<Query>,
    /// How many rows are still to be fetched.
    left: usize,
    /// How many match the first query.
    total: usize,
    /// Where the last row stands.
    last: Option<Place>,
}

/// All rows of a query.
pub(crate) struct All {
    /// The inside of a JSON array.
    pub(crate) text: String,
    /// How many they are.
    pub(crate) count: usize,
    /// How many match in all.
    pub(crate) total: usize,
    /// Where the last of them stands.
    pub(crate) end: Option<Place>,
}

impl Rows {
    /// Those of a query. One whose exact matches come first is two: these, and then all others.
    pub(crate) fn of(api: &Arc<Api>, viewer: &Viewer, asker: Asker, query: Query) -> Rows {
        let (left, lane) = (query.limit, Lane::of(&query));
        let queries = match (&query.first, query.offset) {
            (Some(first), 0) if left > PART => {
                let both = |other: Filter| Query {
                    filter: Filter::And(vec![query.filter.clone(), other]),
                    first: None,
                    ..query.clone()
                };
                [both(first.clone()), both(Filter::Not(Box::new(first.clone())))].into()
            }
            _ => [query].into(),
        };
        Rows { api: api.clone(), viewer: viewer.clone(), asker, lane, queries, left, total: 0, last: None }
    }

    /// The next rows, as the inside of a JSON array; empty at the end.
    pub(crate) async fn next(&mut self) -> std::result::Result<String, StoreError> {
        while let Some(query) = self.queries.front_mut().filter(|_| self.left > 0) {
            let limit = PART.min(self.left);
            let asked = Query { limit, ..query.clone() };
            let hits = self.api.store.search(asked, &self.viewer).await?;
            self.total = self.total.max(hits.total);
            self.left -= hits.hits.len().min(self.left);
            if let Some(last) = hits.hits.last() {
                let place = query.place(&last.product, last.size);
                (query.after, query.offset, query.first) = (Some(place.clone()), 0, None);
                self.last = Some(place);
            }
            if hits.hits.len() < limit {
                self.queries.pop_front();
            }
            if !hits.hits.is_empty() {
                return Ok(text(&hits.hits).await);
            }
        }
        Ok(String::new())
    }

    /// All of them.
    pub(crate) async fn all(mut self) -> Result<All> {
        let wanted = self.left;
        let mut turn = Some(self.api.limits.turn(self.lane, self.asker).await?);
        if let Some(query) = self.queries.pop_front_if(|_| wanted == 0) {
            // There is none to fetch, but how many there are is asked as well.
            self.total = self.api.store.search(query, &self.viewer).await?.total;
        }
        let mut text = String::new();
        loop {
            let next = self.next().await?;
            drop(turn.take());
            if next.is_empty() {
                return Ok(All { text, count: wanted - self.left, total: self.total, end: self.last });
            }
            separate(&mut text);
            text.push_str(&next);
            turn = self.api.limits.go_on(self.lane, self.asker).await;
        }
    }

    /// The answer that is a JSON array of them. Its length is told where all were fetched at once; of a longer one the
    /// connection breaks where it cannot go on.
    pub(crate) async fn respond(mut self) -> Result<Response> {
        let turn = self.api.limits.turn(self.lane, self.asker).await?;
        let first = self.next().await?;
        drop(turn);
        if self.left == 0 || self.queries.is_empty() {
            return Ok(reply::json_text(format!("[{first}]")));
        }
        let more = stream::try_unfold(self, |mut rows| async move {
            let api = rows.api.clone();
            let part = async move {
                let _turn = rows.api.limits.go_on(rows.lane, rows.asker).await;
                let next = rows.next().await?;
                Ok::<_, StoreError>((!next.is_empty()).then_some((next, rows)))
            };
            api.work.of(part).await
        });
        Ok(reply::array(&first, more))
    }
}

async fn text(hits: &[Hit]) -> String {
    let (mut text, mut slice) = (String::new(), TimeSlice::begin());
    for hit in hits {
        slice.step().await;
        separate(&mut text);
        text.push_str(&Value::from(row(hit.id, &hit.product, hit.size)).to_string());
    }
    text
}

fn separate(rows: &mut String) {
    if !rows.is_empty() {
        rows.push(',');
    }
}
