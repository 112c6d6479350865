//! Follows the table of the Data Lifecycle Manager: its data items become products beside those of the volume.
//!
//! Nothing tells when it changes, so a look at its statistics every few seconds says whether a comparison is worth it, and
//! one is made now and then in any case. What differs is read and goes to the store like all else.

use crate::write;
use shared::clock;
use shared::config::DlmSettings;
use shared::status;
use shared::store::postgres::PostgresStore;
use shared::store::postgres::dlm::{Counts, Read, Signature};
use shared::store::{Change, Item, Result, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};
use uuid::Uuid;

/// The pause before what failed is tried again where no table is followed.
const PAUSE: Duration = Duration::from_secs(5);
/// After how long everything is compared in any case: a change shows within a minute, whatever the statistics say.
const COMPARE: Duration = Duration::from_secs(40);
/// How much longer than a comparison the pause after it is at the least.
const EASE: u32 = 10;
/// Most items, and about how many bytes, that are read at a time.
const PAGE: usize = 200;
const PAGE_BYTES: u64 = 1024 * 1024;
/// How often it is told how far reading is.
const PROGRESS: Duration = Duration::from_secs(1);

/// Follows the table for as long as the future is polled. Where none is configured, what was read of one leaves.
pub(crate) async fn follow(store: Arc<PostgresStore>, settings: Option<DlmSettings>) {
    let Some(table) = settings else { return leave(&store).await };
    let look = table.look;
    // What an indexer before this one knew is so until the table can be read.
    let state = loop {
        match store.dlm_published().await {
            Ok(state) => break state.unwrap_or_default(),
            Err(error) => debug!("how data items were followed before is not known: {error}"),
        }
        tokio::time::sleep(look.min(PAUSE)).await;
    };
    let mut follower = Follower { store, table, state, compared: None, told: None };
    loop {
        let begun = Instant::now();
        let looked = follower.look().await;
        follower.note(looked).await;
        tokio::time::sleep(look.max((begun.elapsed() * EASE).min(COMPARE / 2))).await;
    }
}

async fn leave(store: &Arc<PostgresStore>) {
    loop {
        match store.dlm_difference(None).await {
            Ok(difference) => {
                for page in difference.gone.chunks(PAGE) {
                    let gone: Vec<Change> = page.iter().map(|uid| Change::ItemGone(*uid)).collect();
                    write::apply(store.as_ref(), &gone).await;
                }
                if store.publish_dlm(None).await.is_ok() {
                    return;
                }
            }
            Err(error) => debug!("what was read of data items is not known: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

struct Follower {
    store: Arc<PostgresStore>,
    table: DlmSettings,
    state: status::Dlm,
    /// What the table was when it was compared last, and when that was.
    compared: Option<(Signature, Instant)>,
    /// Why it could not be read, as the log has it.
    told: Option<String>,
}

impl Follower {
    /// Compares where that is due or the table may have changed.
    async fn look(&mut self) -> Result<()> {
        let signature = self.store.dlm_signature(&self.table).await?;
        let unchanged =
            self.compared.as_ref().is_some_and(|(before, at)| *before == signature && at.elapsed() < COMPARE);
        if unchanged {
            return Ok(());
        }
        self.compared = None;
        let at = Instant::now();
        self.compare(&signature).await?;
        self.compared = Some((signature, at));
        Ok(())
    }

    /// Reads what differs, and has it written.
    async fn compare(&mut self, signature: &Signature) -> Result<()> {
        let difference = self.store.dlm_difference(Some((&self.table, signature))).await?;
        self.state.items = difference.items;
        let mut told = Instant::now();
        for page in pages(&difference.changed) {
            let read = self.store.dlm_read(&self.table, signature, &page).await?;
            self.apply(changes(&page, read)).await;
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                self.count().await?;
                self.publish().await;
            }
        }
        for page in difference.gone.chunks(PAGE) {
            self.apply(page.iter().map(|uid| Change::ItemGone(*uid)).collect()).await;
        }
        let (changed, gone) = (difference.changed.len(), difference.gone.len());
        if changed + gone > 0 {
            info!(items = difference.items, changed, gone, "read data items of the Data Lifecycle Manager");
        }
        self.count().await?;
        self.state.read_at = Some(clock::now());
        Ok(())
    }

    async fn apply(&self, changes: Vec<Change>) {
        write::apply(self.store.as_ref(), &changes).await;
    }

    async fn count(&mut self) -> Result<()> {
        let Counts { products, passed_over, first } = self.store.dlm_counts().await?;
        self.state.products = products;
        self.state.passed_over = passed_over;
        self.state.first_passed_over = first;
        Ok(())
    }

    /// Tells how the table stands.
    async fn note(&mut self, looked: Result<()>) {
        let error = looked.err().map(|error| error.to_string());
        if let Some(error) = &error {
            if self.told.as_ref() != Some(error) {
                warn!(%error, "data items of the Data Lifecycle Manager cannot be read");
            }
            // What was read of it stays, whoever read it.
            if let Err(error) = self.count().await {
                debug!("what was read of data items is not counted: {error}");
            }
        }
        self.state.accessible = error.is_none();
        self.told.clone_from(&error);
        self.state.error = error;
        self.publish().await;
    }

    async fn publish(&self) {
        if let Err(error) = self.store.publish_dlm(Some(self.state.clone())).await {
            debug!("how the Data Lifecycle Manager is followed is not published: {error}");
        }
    }
}

/// Items in parts that are read at a time.
fn pages(items: &[(Uuid, u64)]) -> Vec<Vec<Uuid>> {
    let mut pages: Vec<(Vec<Uuid>, u64)> = Vec::new();
    for (uid, bytes) in items {
        match pages.last_mut() {
            Some((page, sum)) if page.len() < PAGE && *sum + bytes <= PAGE_BYTES => {
                page.push(*uid);
                *sum += bytes;
            }
            _ => pages.push((vec![*uid], *bytes)),
        }
    }
    pages.into_iter().map(|(page, _)| page).collect()
}

/// What was read of a page. Items of which nothing was read went since they were compared.
fn changes(page: &[Uuid], read: Vec<Read>) -> Vec<Change> {
    let gone: Vec<Change> = page
        .iter()
        .filter(|uid| !read.iter().any(|read| read.uid == **uid))
        .map(|uid| Change::ItemGone(*uid))
        .collect();
    let items = read.into_iter().map(|Read { uid, version, item }| {
        let size = item.as_ref().ok().and_then(shared::dlm::DataItem::bytes);
        let product = item.and_then(|item| item.product().map(Arc::new).map_err(|error| error.to_string()));
        if let Err(error) = &product {
            warn!(%uid, %error, "a data item of the Data Lifecycle Manager is passed over");
        }
        Change::Item(Item { uid, version, product, size })
    });
    items.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_small_in_number_and_in_bytes() {
        let items = |sizes: &[u64]| -> Vec<(Uuid, u64)> {
            sizes.iter().enumerate().map(|(n, size)| (Uuid::from_u128(n as u128), *size)).collect()
        };
        let lengths = |sizes: &[u64]| pages(&items(sizes)).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&[1; 450]), [200, 200, 50]);
        assert_eq!(lengths(&[1, PAGE_BYTES, 1, 1]), [1, 1, 2]);
        assert_eq!(lengths(&[5 * PAGE_BYTES, 5 * PAGE_BYTES]), [1, 1]);
    }
}
