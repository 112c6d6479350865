//! Searches: the columns that a query speaks of are fetched, or were kept, and looked through here; products are fetched for
//! the page alone. All of it sees one snapshot of the database.

use super::annotation;
use super::figures::{Searches, Stage};
use super::keys::{Keys, KnownKeys};
use super::read::{self, HIT, hit};
use super::salvage::{self, By};
use super::view::{Sealed, View};
use crate::access::Viewer;
use crate::filter::{Filter, Key, Test};
use crate::process::slice::TimeSlice;
use crate::query::Query;
use crate::segment::{self, Failed, Page, Pass, Question, Resolve, Sampler, Segment};
use crate::store::{Hit, Hits, Result, StoreError};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;
use tracing::warn;
use uuid::Uuid;

/// The key under which annotations are found.
const ANNOTATION: &str = "annotation";
/// How many bytes of pages are fetched before they are looked through.
const FETCHED: usize = 2 << 20;

/// What a process keeps to search with.
#[derive(Debug)]
pub(super) struct Searcher {
    /// The segments as they were seen last, and the keys.
    view: Mutex<(Arc<View>, Arc<KnownKeys>)>,
    /// Pages by their segment's tag and lowest key, as they are in the database.
    pub(super) pages: Cache<(Uuid, i32), Arc<Page>, Bytes>,
    /// For searches that go on at once: other questions, among them whether the program is ready, have the other
    /// connections.
    pub(super) seats: Semaphore,
    /// For searches that cost next to nothing, which wait for no others.
    pub(super) plain: Semaphore,
    /// For looks through pages that go on at once: each takes some ten megabytes.
    pub(super) permits: Semaphore,
    /// How many looks of one search may go on at once.
    processors: usize,
    /// How a search begins its transaction.
    begin: Arc<str>,
    pub(super) figures: Searches,
}

/// A search on a volume.
pub(super) struct Search<'a> {
    pub(super) prefix: &'a str,
    pub(super) query: Query,
    pub(super) viewer: &'a Viewer,
    pub(super) permits: &'a Permits<'a>,
    /// Whether products are left out that PostgreSQL cannot read, which takes more statements.
    pub(super) careful: bool,
}

/// What lets a search look through pages, at so many places at once. It is had before the search begins its transaction,
/// which would stand idle while others have theirs.
pub(super) struct Permits<'a> {
    looks: usize,
    _all: Vec<SemaphorePermit<'a>>,
}

/// A page counts by its bytes.
#[derive(Debug, Clone)]
pub(super) struct Bytes;

impl Weighter<(Uuid, i32), Arc<Page>> for Bytes {
    fn weight(&self, _: &(Uuid, i32), page: &Arc<Page>) -> u64 {
        page.bytes.len() as u64
    }
}

/// About how many bytes a page has.
const PAGE: u64 = 64 << 10;

impl Searcher {
    /// One that keeps at most so many bytes of pages, and uses at most seven tenths of so many connections. `limit` is how
    /// long a search may take.
    pub(super) fn new(bytes: u64, connections: usize, limit: Duration) -> Searcher {
        // In one piece: a page may have some of the largest part of what there is room for. What makes way goes at once.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(usize::try_from(bytes / PAGE).unwrap_or(usize::MAX))
            .weight_capacity(bytes)
            .shards(1)
            .build()
            .expect("both capacities are set");
        let pages = Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default());
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        // It locks nothing, so it may stand idle for as long as it takes to look through what is kept here.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout TO {}",
            limit.as_millis()
        );
        // One more than can go on, for one or the other waits for the database.
        let permits = Semaphore::new(processors + 1);
        let plain = (connections * 2 / 5).max(1);
        let seats = (connections * 3 / 10).max(1);
        let (plain, seats) = (Semaphore::new(plain), Semaphore::new(seats));
        let figures = Searches::default();
        Searcher { view: Mutex::default(), pages, seats, plain, permits, processors, begin: begin.into(), figures }
    }

    /// Waits for one permit to search, and takes as many more as nobody else wants and there are processors for. Whoever has
    /// some needs nothing but the database to come to his end.
    pub(super) async fn permits(&self, query: &Query) -> Permits<'_> {
        if query.is_plain() {
            let plain = self.plain.acquire().await.expect("it is never closed");
            return Permits { looks: 1, _all: vec![plain] };
        }
        let seat = self.seats.acquire().await.expect("it is never closed");
        let first = self.permits.acquire().await.expect("it is never closed");
        let more = std::iter::from_fn(|| self.permits.try_acquire().ok());
        let mut all: Vec<_> = std::iter::once(first).chain(more.take(self.processors - 1)).collect();
        let looks = all.len();
        all.push(seat);
        Permits { looks, _all: all }
    }

    /// Executes a search.
    pub(super) async fn search(&self, connection: &mut PgConnection, search: Search<'_>) -> Result<Hits> {
        let Search { prefix, query, viewer, permits, careful } = search;
        let begun = Instant::now();
        // So that of all who begin no one sees an older view than the one that is kept.
        let mut kept = self.view.lock().await;
        let mut transaction = connection.begin_with(AssertSqlSafe(self.begin.clone())).await?;
        let (view, known_keys) = &mut *kept;
        *view = View::of(view, &mut transaction, prefix, careful).await?;
        if known_keys.moment != view.moment {
            Arc::make_mut(known_keys).follow(&view.moment, &mut transaction, prefix).await?;
        }
        let (current, known_keys) = kept.clone();
        drop(kept);
        self.figures.view(&current);
        let rules = read::visible_rules(&mut transaction, prefix, viewer).await?;
        let known = Known::of(&mut transaction, prefix, &query, &known_keys).await?;
        let allowed: Vec<i32> = rules.iter().map(|rule| rule.id).collect();
        let question = Arc::new(Question::new(query, allowed.iter().copied().collect(), &known));
        self.figures.took(Stage::View, begun);
        let begun = Instant::now();
        let found = self.look(&mut transaction, &current, &question, permits.looks).await?;
        self.figures.took(Stage::Look, begun);
        let begun = Instant::now();
        let rows = page(&mut transaction, prefix, &found.numbers, &allowed, careful).await?;
        transaction.commit().await?;
        self.figures.took(Stage::Page, begun);
        // Documents may be large, and a transaction that stands idle for long is ended.
        Ok(Hits { total: found.total, hits: hits(&rows, &found.numbers).await? })
    }

    async fn look(
        &self,
        connection: &mut PgConnection,
        view: &Arc<View>,
        question: &Arc<Question>,
        at_once: usize,
    ) -> Result<segment::Found> {
        let mut start = None;
        if let Some(sampler) = Sampler::new(question) {
            let sampler = self.pass(connection, view, question, sampler, at_once).await?;
            start = Some(sampler.finish(question));
        }
        let search = self.pass(connection, view, question, segment::Search::new(question, start), at_once).await?;
        Ok(search.finish(question))
    }

    /// Looks at all segments, at those together whose pages come to about [`FETCHED`] bytes or that are a processor's share,
    /// while the next are fetched.
    async fn pass<P: Pass>(
        &self,
        connection: &mut PgConnection,
        view: &Arc<View>,
        question: &Arc<Question>,
        pass: P,
        at_once: usize,
    ) -> Result<P> {
        let keys = question.keys();
        let share = view.segments.len() / at_once;
        let (mut pages, mut fetched, mut begin) = (Vec::new(), 0, 0);
        let mut looking: VecDeque<Looking<P>> = VecDeque::with_capacity(at_once);
        for n in 0..=view.segments.len() {
            if let Some(segment) = view.segments.get(n) {
                let (own, bytes) = self.pages(connection, segment, keys.as_deref()).await?;
                pages.push(own);
                fetched += bytes;
            }
            if fetched < FETCHED && pages.len() <= share && n < view.segments.len() {
                continue;
            }
            let tail = n == view.segments.len();
            let part = Part { view: view.clone(), begin, pages: std::mem::take(&mut pages), tail };
            let free = if looking.len() < at_once { None } else { looking.pop_front() };
            let pass = match free {
                None => pass.clone(),
                Some(looking) => looking.end().await?,
            };
            looking.push_back(part.look(pass, question.clone()));
            (begin, fetched) = (n + 1, 0);
        }
        let mut whole = pass;
        for one in looking {
            whole.join(question, one.end().await?);
        }
        Ok(whole)
    }

    /// The pages of a segment that have columns of these keys, and how many bytes of them were not kept.
    pub(super) async fn pages(
        &self,
        connection: &mut PgConnection,
        segment: &Sealed,
        keys: Option<&[i32]>,
    ) -> Result<(Vec<Arc<Page>>, usize)> {
        let wanted = |(first, last): &&(i32, i32)| {
            keys.is_none_or(|keys| keys.get(keys.partition_point(|key| key < first)).is_some_and(|key| key <= last))
        };
        let wanted: Vec<i32> = segment.pages.iter().filter(wanted).map(|(first, _)| *first).collect();
        let mut found: HashMap<i32, Arc<Page>> =
            wanted.iter().filter_map(|first| Some((*first, self.pages.get(&(segment.tag, *first))?))).collect();
        let missing: Vec<i32> = wanted.iter().copied().filter(|first| !found.contains_key(first)).collect();
        self.figures.pages(found.len(), missing.len());
        let mut fetched = 0;
        if !missing.is_empty() {
            let begun = Instant::now();
            let rows: Vec<(i32, i32, Vec<u8>)> = sqlx::query_as(
                "SELECT first_key, last_key, bytes FROM segment_page WHERE segment = $1 AND first_key = ANY($2)",
            )
            .bind(segment.id)
            .bind(&missing)
            .fetch_all(connection)
            .await?;
            self.figures.took(Stage::Fetch, begun);
            for (first, last, bytes) in rows {
                fetched += bytes.len();
                let page = Arc::new(Page { first, last, bytes });
                self.pages.insert((segment.tag, first), page.clone());
                found.insert(first, page);
            }
        }
        Ok((wanted.iter().filter_map(|first| found.remove(first)).collect(), fetched))
    }
}

/// Some segments of a view in a row, and their pages.
struct Part {
    view: Arc<View>,
    begin: usize,
    pages: Vec<Vec<Arc<Page>>>,
    /// Whether the view's tail is to be looked at as well.
    tail: bool,
}

impl Part {
    /// Looks at them where it holds up nobody.
    fn look<P: Pass>(self, mut pass: P, question: Arc<Question>) -> Looking<P> {
        let waiting = Waiting(Arc::default());
        let given_up = waiting.0.clone();
        let look = move || {
            let given_up = || given_up.load(Ordering::Relaxed);
            let sealed = self.view.segments[self.begin..].iter().zip(&self.pages).map(|(segment, pages)| Segment {
                products: segment.products,
                pages,
                superseded: self.view.superseded(segment),
            });
            for segment in sealed.chain(self.tail.then(|| self.view.tail())) {
                pass.add(&question, &segment, &given_up)?;
            }
            Ok(pass)
        };
        Looking { looked: tokio::task::spawn_blocking(look), _waiting: waiting }
    }
}

/// A look at segments that goes on by itself, and ends soon where nobody waits for it any more.
struct Looking<P> {
    looked: JoinHandle<segment::Result<P>>,
    _waiting: Waiting,
}

impl<P> Looking<P> {
    /// Waits for its end, and answers what came of it.
    async fn end(self) -> Result<P> {
        let looked = self.looked.await;
        looked
            .map_err(|error| StoreError::Unavailable(format!("the search was interrupted: {error}")))?
            .map_err(|error: Failed| StoreError::Unavailable(error.to_string()))
    }
}

/// Tells a search that nobody waits for its answer any more, once this is dropped.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the database knows that a question is made with.
struct Known {
    keys: Keys,
    /// The versions of products that have annotations which pass a test.
    annotated: Vec<(Test, Vec<u64>)>,
}

impl Known {
    async fn of(connection: &mut PgConnection, prefix: &str, query: &Query, known: &KnownKeys) -> Result<Known> {
        let keys = Keys::of(query, known);
        let mut tests = Vec::new();
        [&query.filter].into_iter().chain(&query.first).for_each(|filter| of_annotations(filter, &mut tests));
        let mut annotated = Vec::with_capacity(tests.len());
        for test in tests {
            let numbers = annotation::numbers(connection, prefix, &test).await?;
            annotated.push((test, numbers));
        }
        Ok(Known { keys, annotated })
    }
}

impl Resolve for Known {
    fn keys(&self, key: &Key) -> segment::Keys {
        self.keys.picked(key)
    }

    fn beside(&self, key: &Key, test: &Test) -> Option<Vec<u64>> {
        let numbers = || self.annotated.iter().find(|(own, _)| own == test).map(|(_, numbers)| numbers.clone());
        is_of_annotations(key).then(numbers).flatten()
    }
}

fn is_of_annotations(key: &Key) -> bool {
    *key != Key::Every && key.picks(ANNOTATION)
}

/// The tests of a filter that annotations may pass.
fn of_annotations(filter: &Filter, tests: &mut Vec<Test>) {
    match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().for_each(|filter| of_annotations(filter, tests)),
        Filter::Not(filter) => of_annotations(filter, tests),
        Filter::Any(key, test) if is_of_annotations(key) => tests.push(test.clone()),
        Filter::Any(..) => {}
    }
}

/// The rows of products of which these are versions. Columns tell already which of them the viewer may see; the rows
/// themselves are asked again, for nobody may see a product because something derived from it is wrong.
async fn page(
    connection: &mut PgConnection,
    prefix: &str,
    numbers: &[u64],
    allowed: &[i32],
    careful: bool,
) -> Result<Vec<PgRow>> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let numbers: Vec<i64> = numbers.iter().map(|number| number.cast_signed()).collect();
    if careful {
        return salvage::readable(connection, By::Number, &numbers, Some(allowed)).await;
    }
    let sql = format!(
        "SELECT {HIT}, p.number FROM data_product p JOIN document d ON d.product = p.id \
         WHERE p.volume_prefix = $1 AND p.number = ANY($2) AND p.access = ANY($3)"
    );
    Ok(sqlx::query(AssertSqlSafe(sql)).bind(prefix).bind(&numbers).bind(allowed).fetch_all(connection).await?)
}

/// The products in rows, in the order of these numbers. One that does not read is left out.
async fn hits(rows: &[PgRow], numbers: &[u64]) -> Result<Vec<Hit>> {
    let mut hits = HashMap::with_capacity(rows.len());
    let mut slice = TimeSlice::begin();
    for row in rows {
        slice.step().await;
        match hit(row) {
            Ok(hit) => drop(hits.insert(row.try_get::<i64, _>("number")?.cast_unsigned(), hit)),
            Err(error) => warn!(%error, "a product is left out of a page"),
        }
    }
    Ok(numbers.iter().filter_map(|number| hits.remove(number)).collect())
}
