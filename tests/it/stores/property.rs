//! The contract by comparison: both stores are made to hold the same, whatever it is, and asked the same, whatever that
//! is. Every query's order is fully determined, so that answers are compared whole.

use super::generators::{FOLDERS, OPERATORS, Step, change, folder, metadata, name, scalar, step};
use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestError, TestRunner};
use shared::date;
use shared::filter::pairs;
use shared::product::Product;
use shared::query::Place;
use shared::row::{self, FIXED};
use shared::store::Lookup;
use shared::store::memory::MemoryStore;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// How many times the stores are filled, each time asked many things.
const CASES: u32 = 200;

/// A word of a query: anything, or some of what a product has, so that there is something to find.
#[derive(Debug, Clone)]
enum Word {
    Any(Value),
    Whole(Index),
    /// A part of a value's text, in other cases.
    Part(Index, Index, Index, bool),
}

/// A field of a query.
#[derive(Debug, Clone)]
enum Field {
    Any(String),
    Fixed(Index),
    /// Some names of a key that a product has: from the one to the other.
    Key(Index, Index, Index),
}

#[derive(Debug, Clone)]
struct Item {
    field: Field,
    operator: &'static str,
    words: Vec<Word>,
    /// The number or the day to take where a word is none.
    number_or_day: Index,
}

/// What is asked for.
#[derive(Debug, Clone)]
enum Body {
    Grid {
        items: Vec<Item>,
        pairs: Vec<(Field, Word)>,
        quick: Vec<Word>,
        any: bool,
        sort: Vec<(Field, Option<bool>)>,
        page: u8,
        size: u8,
    },
    Pairs {
        pairs: Vec<(Field, Word)>,
        days: Option<(&'static str, &'static str)>,
    },
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        2 => scalar().prop_map(Word::Any),
        2 => any::<Index>().prop_map(Word::Whole),
        2 => any::<(Index, Index, Index, bool)>().prop_map(|(of, from, to, upper)| Word::Part(of, from, to, upper)),
    ]
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        1 => name().prop_map(Field::Any),
        1 => any::<Index>().prop_map(Field::Fixed),
        4 => any::<(Index, Index, Index)>().prop_map(|(of, from, to)| Field::Key(of, from, to)),
    ]
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let words = prop::collection::vec(word(), 1..4);
    let operator = prop::sample::select(OPERATORS.to_vec());
    let item = (field(), operator, words, any::<Index>(), prop::bool::weighted(0.7));
    let item = item.prop_map(|(field, operator, mut words, number_or_day, of_field)| {
        if let (Field::Key(leaf, ..), Word::Whole(of) | Word::Part(of, ..), true) = (&field, &mut words[0], of_field) {
            *of = *leaf;
        }
        Item { field, operator, words, number_or_day }
    });
    // Of many conditions most lists have nothing that passes all.
    let (item, count) = (item.boxed(), prop::sample::select(vec![0, 1, 1, 1, 1, 2, 3]));
    count.prop_flat_map(move |count| prop::collection::vec(item.clone(), count))
}

fn sort() -> impl Strategy<Value = Vec<(Field, Option<bool>)>> {
    let way = prop_oneof![4 => any::<bool>().prop_map(Some), 1 => Just(None)];
    prop::collection::vec((field(), way), 0..4)
}

fn body() -> impl Strategy<Value = Body> {
    let pair = || {
        (field(), word()).prop_map(|(field, mut word)| {
            if let (Field::Key(leaf, ..), Word::Whole(of) | Word::Part(of, ..)) = (&field, &mut word) {
                *of = *leaf;
            }
            (field, word)
        })
    };
    let few_pairs = prop_oneof![8 => Just(Vec::new()), 1 => prop::collection::vec(pair(), 1..3)];
    let quick = prop_oneof![6 => Just(Vec::new()), 1 => prop::collection::vec(word(), 1..3)];
    let grid = (items(), few_pairs, quick, any::<bool>(), sort(), 0u8..3, 1u8..9);
    let day = || {
        prop::sample::select(vec!["1900-01-01", "1970-01-01", "1970-01-02", "2023-10-31", "2023-12-31", "2024-01-01"])
    };
    let days = prop::option::of((day(), day()));
    prop_oneof![
        3 => grid.prop_map(|(items, pairs, quick, any, sort, page, size)| {
            Body::Grid { items, pairs, quick, any, sort, page, size }
        }),
        1 => (prop::collection::vec(pair(), 0..3), days).prop_map(|(pairs, days)| Body::Pairs { pairs, days }),
    ]
}

fn viewer() -> impl Strategy<Value = Viewer> {
    let groups = prop::sample::subsequence(vec!["staff", "x", "\0", "STAFF"], 0..=4);
    groups.prop_map(|groups| Viewer::member_of(groups.into_iter().map(str::to_owned)))
}

/// What words and fields are taken from: the leaves of what the stores hold.
struct Leaves {
    all: Vec<(String, Value)>,
    numbers: Vec<Value>,
    days: Vec<Value>,
}

impl Leaves {
    async fn of(store: &dyn Store) -> Leaves {
        let groups = ["staff", "x", "\0", "\\0", "'"].map(str::to_owned);
        let hits = store.search(everything(), &Viewer::member_of(groups)).await.expect("an answer").hits;
        let leaves = hits.iter().map(|hit| row::leaves(&hit.product, hit.size));
        // Those that all have are enough of one product.
        let leaves = leaves.enumerate().flat_map(|(n, mut leaves)| {
            leaves.retain(|leaf| n == 0 || !FIXED.contains(&leaf.key.as_str()));
            leaves
        });
        let nothing = ("k".to_owned(), json!("of nothing"));
        let all: Vec<_> = leaves.map(|leaf| (leaf.key, leaf.value)).chain([nothing]).collect();
        let values = || all.iter().map(|(_, value)| value.clone());
        let numbers = values().filter(Value::is_number).chain([json!(0)]).collect();
        let is_day = |value: &Value| value.as_str().is_some_and(|text| date::parse(text).is_some());
        let days = values().filter(is_day).chain([json!("2023-10-31")]).collect();
        Leaves { all, numbers, days }
    }

    fn word(&self, word: &Word) -> Value {
        match word {
            Word::Any(value) => value.clone(),
            Word::Whole(of) => of.get(&self.all).1.clone(),
            Word::Part(of, from, to, upper) => {
                let chars: Vec<char> = text(&of.get(&self.all).1).chars().collect();
                let (from, to) = (from.index(chars.len() + 1), to.index(chars.len() + 1));
                let part: String = chars[from.min(to)..from.max(to)].iter().collect();
                json!(if *upper { part.to_uppercase() } else { part.to_lowercase() })
            }
        }
    }

    fn field(&self, field: &Field) -> String {
        match field {
            Field::Any(name) => name.clone(),
            Field::Fixed(of) => (*of.get(&FIXED)).to_owned(),
            Field::Key(of, from, to) => {
                let names: Vec<&str> = of.get(&self.all).0.split('.').collect();
                let (from, to) = (from.index(names.len()), to.index(names.len()));
                // Mostly from its beginning, since that is where a path begins.
                names[if from.is_multiple_of(2) { 0 } else { from.min(to) }..=from.max(to)].join(".")
            }
        }
    }

    /// The query of a body, of which is left out what cannot be read.
    fn query(&self, body: &Body) -> Query {
        match body {
            Body::Grid { items, pairs, quick, any, sort, page, size } => {
                let pair =
                    |(field, word): &(Field, Word)| json!({"keyPair": self.field(field), "valuePair": self.word(word)});
                let mut all: Vec<Value> = items.iter().filter_map(|item| self.item(item)).collect();
                if !pairs.is_empty() {
                    all.push(json!({"field": "formFields", "keyPairs": pairs.iter().map(pair).collect::<Vec<_>>()}));
                }
                let operator = if *any { "or" } else { "and" };
                let quick: Vec<Value> = quick.iter().map(|word| self.word(word)).collect();
                let way = |way: &Option<bool>| way.map(|up| if up { "asc" } else { "desc" });
                let sort = sort.iter().map(|(field, up)| json!({"field": self.field(field), "sort": way(up)}));
                super::query(&json!({
                    "filterModel": {"items": all, "logicOperator": operator},
                    "searchPanelOptions": {"quickFilterValues": quick, "quickFilterLogicOperator": operator},
                    "sortModel": sort.collect::<Vec<_>>(),
                    "page": page,
                    "pageSize": size,
                }))
            }
            Body::Pairs { pairs, days } => {
                let pairs = pairs.iter().map(|(field, word)| (self.field(field), text(&self.word(word))));
                let pairs: Vec<String> =
                    pairs.filter(|(key, _)| !key.is_empty()).map(|(key, value)| format!("{key}:{value}")).collect();
                let (from, to) = days.map_or(("1900-01-01", None), |(a, b)| (a.min(b), Some(a.max(b))));
                let body = json!({"key_value_pairs": pairs, "start_date": from, "end_date": to});
                pairs::parse(&body, "%Y-%m-%d", 5).unwrap_or_else(|error| panic!("{error}: {body}"))
            }
        }
    }

    /// An item of the grid; none where the operator is none.
    fn item(&self, item: &Item) -> Option<Value> {
        let words: Vec<Value> = item.words.iter().map(|word| self.word(word)).collect();
        let word = if item.operator == "isAnyOf" { json!(words) } else { words[0].clone() };
        let number_or_day = [item.number_or_day.get(&self.numbers), item.number_or_day.get(&self.days)];
        let values = [&word].into_iter().chain(number_or_day);
        let mut items =
            values.map(|value| json!({"field": self.field(&item.field), "operator": item.operator, "value": value}));
        items.find(|item| grid::parse(&json!({"filterModel": {"items": [item]}})).is_ok())
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The two stores that are compared, the second as an indexer and as an API have it.
struct Pair {
    memory: MemoryStore,
    indexer: PostgresStore,
    api: PostgresStore,
    /// How many batches were applied.
    applied: Cell<usize>,
}

impl Pair {
    async fn new(home: &Home, volume: &str) -> Pair {
        Pair {
            memory: in_segments(),
            indexer: home.indexer(volume).await,
            api: home.api(volume),
            applied: Cell::new(0),
        }
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), TestCaseError> {
        prop_assert_eq!(apply(&self.memory, changes).await, apply(&self.indexer, changes).await);
        // So that what is searched is in segments and in the tail, and was in others before.
        self.applied.set(self.applied.get() + 1);
        if !self.applied.get().is_multiple_of(3) {
            self.indexer.seal(1 + self.applied.get() % 5).await.expect("sealed");
        }
        if self.applied.get().is_multiple_of(2) {
            self.indexer.merge().await.expect("merged");
        }
        Ok(())
    }

    /// Takes steps, those between ingested products as one batch.
    async fn take(&self, steps: Vec<Step>, version: &mut i64) -> Result<(), TestCaseError> {
        let mut batch = Vec::new();
        for step in steps {
            *version += 1;
            match change(step, *version) {
                Ok(change) => batch.push(change),
                Err(metadata) => {
                    self.apply(&std::mem::take(&mut batch)).await?;
                    let product = Product::from_metadata(metadata, "vol").expect("a product");
                    self.memory.ingest(product.clone(), &Viewer::unrestricted()).await.expect("ingested");
                    self.api.ingest(product, &Viewer::unrestricted()).await.expect("ingested");
                }
            }
        }
        self.apply(&batch).await
    }

    /// The answer of both, where it is the same.
    async fn search(&self, query: &Query, viewer: &Viewer) -> Result<(usize, Vec<Hit>), TestCaseError> {
        let expected = self.memory.search(query.clone(), viewer).await.expect("an answer");
        let hits = self.api.search(query.clone(), viewer).await.expect("an answer");
        let show = |hits: &[Hit]| hits.iter().map(|hit| (hit.product.uid, hit.size, shown(hit))).collect::<Vec<_>>();
        let (left, right) = ((expected.total, show(&expected.hits)), (hits.total, show(&hits.hits)));
        prop_assert_eq!(left, right, "{:?} for {:?}", query, viewer);
        Ok((expected.total, hits.hits))
    }

    /// Compares all that is answered beside searches.
    async fn compare(&self, viewer: &Viewer) -> Result<(), TestCaseError> {
        let (memory, api) = (&self.memory, &self.api);
        prop_assert_eq!(memory.keys(viewer).await, api.keys(viewer).await);
        let of = |summary: shared::store::Summary| {
            let failing: Vec<_> =
                summary.first_failing.into_iter().map(|failing| (failing.path, failing.error)).collect();
            (summary.products, summary.products_on_volume, summary.failing, failing)
        };
        for most in [0, 2, 9] {
            prop_assert_eq!(memory.summary(viewer, most).await.map(of), api.summary(viewer, most).await.map(of));
        }
        for scope in (0..FOLDERS.len()).map(folder) {
            prop_assert_eq!(memory.known(&scope).await, self.indexer.known(&scope).await);
            let lately = Duration::from_secs(3600);
            prop_assert_eq!(memory.below(&scope, viewer, lately).await, api.below(&scope, viewer, lately).await);
        }
        let all = memory.search(everything(), &staff()).await.expect("an answer").hits;
        for hit in &all {
            let kind = |lookup: &Lookup| match lookup {
                Lookup::Found(hit) => shown(hit),
                other => format!("{other:?}"),
            };
            let uid = hit.product.uid;
            let (left, right) = (memory.product(uid, viewer).await, api.product(uid, viewer).await);
            prop_assert_eq!(left.as_ref().map(kind), right.as_ref().map(kind));
            let block = &hit.product.execution_block;
            let show = |hits: Vec<Hit>| hits.iter().map(shown).collect::<Vec<_>>();
            let (left, right) = (memory.products_of(block, viewer).await, api.products_of(block, viewer).await);
            prop_assert_eq!(left.map(show), right.map(show));
        }
        Ok(())
    }

    /// Walks through a list page by page, each after the last product of the one before.
    async fn walk(&self, query: &Query, viewer: &Viewer) -> Result<Vec<Uuid>, TestCaseError> {
        let (mut query, mut seen) = (Query { first: None, offset: 0, limit: 2, ..query.clone() }, Vec::new());
        while let Some(after) = self.page(&query, viewer, &mut seen).await? {
            query.after = Some(after);
        }
        Ok(seen)
    }

    async fn page(&self, query: &Query, viewer: &Viewer, seen: &mut Vec<Uuid>) -> Result<Option<Place>, TestCaseError> {
        let (_, hits) = self.search(query, viewer).await?;
        seen.extend(hits.iter().map(|hit| hit.product.uid));
        Ok(hits.last().map(|last| query.place(&last.product, last.size)))
    }
}

fn uids(hits: &[Hit]) -> Vec<Uuid> {
    hits.iter().map(|hit| hit.product.uid).collect()
}

/// Runs a property a fixed number of times, all on one database and each on a volume of its own.
fn check<T: std::fmt::Debug>(
    cases: u32,
    cases_of: impl Strategy<Value = T>,
    test: impl AsyncFn(Pair, T) -> Result<(), TestCaseError>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let home = runtime.block_on(async { Home::new() });
    let volumes = Cell::new(0);
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&cases_of, |case| {
        volumes.set(volumes.get() + 1);
        runtime.block_on(async { test(Pair::new(&home, &format!("volume{}", volumes.get())).await, case).await })
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("{reason}\nof {case:?}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn both_stores_answer_the_same() {
    let at_first = prop::collection::vec(metadata(), FOLDERS.len());
    let steps = prop::collection::vec(prop::collection::vec(step(), 1..6), 1..4);
    let questions = prop::collection::vec((body(), viewer()), 12);
    // How many searches there were, and how many of them found some and not all.
    let (asked, telling) = (Cell::new(0), Cell::new(0));
    check(CASES, (at_first, steps, questions), async |pair, (at_first, steps, questions)| {
        let mut version = 0;
        let at_first = at_first.into_iter().enumerate().map(|(n, metadata)| Step::Write(n, metadata)).collect();
        for batch in [at_first].into_iter().chain(steps) {
            pair.take(batch, &mut version).await?;
        }
        let leaves = Leaves::of(&pair.memory).await;
        for (body, viewer) in &questions {
            let query = leaves.query(body);
            let (total, _) = pair.search(&query, viewer).await?;
            asked.set(asked.get() + 1);
            let all = pair.memory.search(everything(), viewer).await.expect("an answer").total;
            telling.set(telling.get() + u32::from(total > 0 && total < all));
        }
        pair.compare(&questions[0].1).await?;
        for (body, viewer) in questions.iter().take(2) {
            let query = leaves.query(body);
            let whole = Query { first: None, offset: 0, limit: 1000, ..query.clone() };
            let (_, whole) = pair.search(&whole, viewer).await?;
            prop_assert_eq!(pair.walk(&query, viewer).await?, uids(&whole));
        }
        Ok(())
    });
    assert!(telling.get() * 10 > asked.get(), "only {} of {} searches tell", telling.get(), asked.get());
}

#[test]
fn a_walk_through_a_list_meets_each_product_once() {
    let arrivals = prop::collection::vec((prop::bool::weighted(0.6), 0usize..16, metadata()), 1..16);
    let at_first = prop::collection::vec(metadata(), 8);
    check(CASES / 4, (at_first, arrivals, sort(), viewer()), async |pair, (at_first, arrivals, sort, viewer)| {
        let place = |n: usize| format!("list/{n}");
        let first: Vec<Change> = at_first.iter().enumerate().map(|(n, metadata)| write(&place(n), metadata)).collect();
        pair.apply(&first).await?;
        let leaves = Leaves::of(&pair.memory).await;
        let list =
            Body::Grid { items: Vec::new(), pairs: Vec::new(), quick: Vec::new(), any: false, sort, page: 0, size: 2 };
        let mut query = leaves.query(&list);
        let all = Query { limit: 1000, ..query.clone() };
        let mut throughout: BTreeSet<Uuid> = uids(&pair.search(&all, &viewer).await?.1).into_iter().collect();
        // Which folders have a product: what is there stays as it is until it goes.
        let mut there: BTreeMap<usize, bool> = (0..16).map(|n| (n, n < at_first.len())).collect();
        let (mut seen, mut arrivals) = (Vec::new(), arrivals.into_iter());
        while let Some(after) = pair.page(&query, &viewer, &mut seen).await? {
            query.after = Some(after);
            for (arrives, n, metadata) in arrivals.by_ref().take(3) {
                match (arrives, there.insert(n, arrives)) {
                    (true, Some(false)) => pair.apply(&[write(&place(n), &metadata)]).await?,
                    (false, Some(true)) => pair.apply(&[gone(&place(n))]).await?,
                    _ => continue,
                }
                let now = pair.memory.search(all.clone(), &viewer).await.expect("an answer").hits;
                throughout.retain(|uid| now.iter().any(|hit| hit.product.uid == *uid));
            }
        }
        for uid in throughout {
            let times = seen.iter().filter(|seen| **seen == uid).count();
            prop_assert_eq!(times, 1, "{} is met {} times", uid, times);
        }
        Ok(())
    });
}
