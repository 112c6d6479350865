//! From a change to the store: one writer hands over in batches what the workers find.

use crate::measure::Measure;
use crate::metrics::Meters;
use crate::queue::{Hint, Queue, Turn};
use crate::run::Ticket;
use shared::access::Access;
use shared::folder::Folder;
use shared::status::Failing;
use shared::store::{Change, Item as DataItem, Outcome, Store, StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

/// How long the writer waits for a store that cannot at the moment.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// The most values of products in one write. PostgreSQL takes a second for so many.
const PART: usize = 100_000;
/// How often one change that takes the store too long is tried again.
const ATTEMPTS: u32 = 2;

/// A change on its way to the store, and the walks that wait for it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) change: Change,
    /// When an event told of it, where one did.
    pub(crate) told: Option<Instant>,
    pub(crate) tickets: Vec<Ticket>,
}

impl Item {
    /// A change that no walk waits for.
    pub(crate) fn of(change: Change) -> Item {
        Item { change, told: None, tickets: Vec::new() }
    }
}

/// Writes changes in batches of at most `batch` until nobody sends any more. Under little load a batch is one change;
/// under much load it is what came while the last one was written.
pub(crate) async fn write(
    store: Arc<dyn Store>,
    mut changes: mpsc::Receiver<Item>,
    batch: usize,
    measure: Measure,
    queue: &Queue,
    meters: Meters,
) {
    let mut items = Vec::with_capacity(batch);
    while changes.recv_many(&mut items, batch).await > 0 {
        let (changes, beside): (Vec<Change>, Vec<_>) =
            items.drain(..).map(|item| (item.change, (item.told, item.tickets))).unzip();
        let begun = Instant::now();
        meters.write_begins(beside.iter().filter_map(|(told, _)| *told).min());
        let mut outcomes = Vec::with_capacity(changes.len());
        for part in parts(&changes) {
            let mut waited = false;
            outcomes.extend(apply_in_time(store.as_ref(), part, &mut waited).await);
            if waited {
                read_again(part, queue);
            }
        }
        meters.write_ends(begun, changes.len());
        let came_or_went: Vec<Folder> = changes.iter().zip(&outcomes).filter_map(came_or_went).cloned().collect();
        for ((change, (told, tickets)), outcome) in changes.into_iter().zip(&beside).zip(outcomes) {
            meters.written(&change, outcome, *told);
            if let Change::Found(found) = change {
                let public = found.product.access == Access::Public;
                tickets.iter().for_each(|ticket| ticket.run().count(outcome, public));
                // Also where the product is as it was: its files need not be.
                found.product.folder.clone().into_iter().for_each(|folder| measure.product(folder));
            }
        }
        measure_around(store.as_ref(), &came_or_went, &measure).await;
    }
}

/// Has files read again whose changes waited for the store: an API may have written a newer version of them meanwhile, over
/// which these came.
fn read_again(changes: &[Change], queue: &Queue) {
    for folder in changes.iter().filter_map(Change::folder) {
        queue.push(folder.clone(), Hint::read(), Turn::Due(Instant::now()));
    }
}

/// The folder of a change by which it became, or may have become, another product's or was one's no more.
fn came_or_went<'a>((change, outcome): (&'a Change, &Outcome)) -> Option<&'a Folder> {
    match (change, outcome) {
        (Change::Found(_), Outcome::Added) | (Change::Gone(_), Outcome::Removed) | (Change::Failing { .. }, _) => {
            change.folder()
        }
        _ => None,
    }
}

/// Orders the measurement of the products around folders.
pub(crate) async fn measure_around(store: &dyn Store, folders: &[Folder], measure: &Measure) {
    let around: BTreeSet<&str> = folders.iter().flat_map(Folder::above).collect();
    let around: Vec<Folder> = around.into_iter().filter_map(|folder| folder.parse().ok()).collect();
    if around.is_empty() {
        return;
    }
    match store.products_at(&around).await {
        Ok(products) => products.into_iter().for_each(|folder| measure.changed(folder)),
        Err(error) => {
            debug!("products around others are measured later: {error}");
            measure.more();
        }
    }
}

/// Splits changes so that each part is soon written: while one is, others who write wait for it, and the lease is not renewed.
fn parts(changes: &[Change]) -> Vec<&[Change]> {
    let (mut parts, mut begin, mut values) = (Vec::new(), 0, 0);
    for (at, change) in changes.iter().enumerate() {
        let more = if let Change::Found(found) = change { found.product.values() } else { 1 };
        if values > 0 && values + more > PART {
            parts.push(&changes[begin..at]);
            (begin, values) = (at, 0);
        }
        values += more;
    }
    parts.push(&changes[begin..]);
    parts
}

/// Hands changes to the store until it has taken them.
pub(crate) async fn apply(store: &dyn Store, changes: &[Change]) -> Vec<Outcome> {
    apply_in_time(store, changes, &mut false).await
}

/// The same; `waited` becomes true where the store did not take them at once.
async fn apply_in_time(store: &dyn Store, changes: &[Change], waited: &mut bool) -> Vec<Outcome> {
    let (mut told, mut attempts) = (String::new(), 0);
    loop {
        match store.apply(changes).await {
            Ok(outcomes) => return outcomes,
            Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::NotReady(_)
                | StoreError::ReadOnly
                | StoreError::Unusable(_)),
            ) => {
                let reason = error.to_string();
                if told != reason {
                    warn!(error = %reason, "the store takes no changes, they are kept");
                    told = reason;
                }
                *waited = true;
                tokio::time::sleep(STORE_PAUSE).await;
            }
            Err(StoreError::TooLong(reason)) if changes.len() > 1 => {
                warn!(error = %reason, "{} changes at once take the store too long, half of them are tried", changes.len());
                return apply_in_halves(store, changes, waited).await;
            }
            Err(StoreError::Damaged(reason)) if changes.len() > 1 => {
                warn!(
                    error = %reason, "{} changes at once meet with something damaged, half of them are tried",
                    changes.len()
                );
                return apply_in_halves(store, changes, waited).await;
            }
            Err(StoreError::Damaged(reason)) if attempts < ATTEMPTS => {
                attempts += 1;
                warn!(subject = ?changes.first().map(Change::subject), error = %reason, "the store cannot take this, it is tried again");
                *waited = true;
                tokio::time::sleep(STORE_PAUSE).await;
            }
            Err(StoreError::Damaged(reason)) => return apply_what_fits(store, changes, reason, false, waited).await,
            Err(StoreError::TooLong(reason)) if attempts < ATTEMPTS => {
                attempts += 1;
                warn!(folder = ?changes.first().and_then(Change::folder), error = %reason, "the store takes too long, it is tried again");
                *waited = true;
                tokio::time::sleep(STORE_PAUSE).await;
            }
            Err(StoreError::TooLong(reason)) => return apply_what_fits(store, changes, reason, false, waited).await,
            Err(StoreError::Refused(reason)) => return apply_what_fits(store, changes, reason, true, waited).await,
            // They are another's to write now; this indexer is about to be ended.
            Err(StoreError::Superseded) => std::future::pending().await,
        }
    }
}

async fn apply_in_halves(store: &dyn Store, changes: &[Change], waited: &mut bool) -> Vec<Outcome> {
    let (front, back) = changes.split_at(changes.len() / 2);
    let mut outcomes = Box::pin(apply_in_time(store, front, waited)).await;
    outcomes.extend(Box::pin(apply_in_time(store, back, waited)).await);
    outcomes
}

/// Applies changes of which some do not fit into the store. These are listed as failing, and hold up no other. The next walk
/// tries one again where it is not `certain` that it never fits.
async fn apply_what_fits(
    store: &dyn Store,
    changes: &[Change],
    reason: String,
    certain: bool,
    waited: &mut bool,
) -> Vec<Outcome> {
    let [change] = changes else { return apply_in_halves(store, changes, waited).await };
    error!(subject = ?change.subject(), error = %reason, "the store refuses this change");
    if let Change::Found(found) = change
        && let Some(folder) = &found.product.folder
    {
        let path = found.product.metadata_path();
        let guarded = found.product.access != Access::Public;
        let error = Failing::error(&format_args!("the store refuses it: {reason}"), guarded);
        let failing = Change::Failing { folder: folder.clone(), path, error, stamp: certain.then_some(found.stamp) };
        return Box::pin(apply(store, &[failing])).await;
    }
    if let Change::Item(item) = change
        && item.product.is_ok()
    {
        let none = DataItem { product: Err(format!("the store refuses it: {reason}")), ..item.clone() };
        return Box::pin(apply(store, &[Change::Item(none)])).await;
    }
    vec![Outcome::Unchanged]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use shared::product::Product;
    use shared::volume::Stamp;

    #[test]
    fn what_is_much_is_written_in_parts() {
        let change = |values: usize| {
            let metadata = json!({"execution_block": "eb", "v": vec![0; values]});
            let product = Arc::new(Product::from_metadata(metadata, "v").expect("a product"));
            Change::Found(shared::volume::Found { product, stamp: Stamp::default(), digest: [0; 32] })
        };
        let sizes = |values: &[usize]| {
            let changes: Vec<Change> = values.iter().map(|values| change(*values)).collect();
            parts(&changes).iter().map(|part| part.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[1; 500]), [500]);
        assert_eq!(sizes(&[40_000; 7]), [2, 2, 2, 1]);
        assert_eq!(sizes(&[10, 300_000, 10, 10]), [1, 1, 2]);
        assert_eq!(sizes(&[300_000, 300_000]), [1, 1]);
    }
}
