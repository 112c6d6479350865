//! A copy of what a store says of itself: for metrics, which must not wait for a database that does not answer.

use super::{Figures as _, Registry};
use crate::access::Viewer;
use crate::store::{Store, Summary};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::debug;

/// How often the store is asked.
const EVERY: Duration = Duration::from_secs(5);

/// What a store said last, and when.
#[derive(Debug, Clone, Default)]
pub struct Copy(Arc<Mutex<Option<(Instant, Summary)>>>);

impl Copy {
    /// Asks a store again and again, which bounds how long it takes to answer, for as long as the future is polled. After
    /// that nothing is known any more.
    pub async fn follow(&self, store: &dyn Store) {
        let _forget = Forget(self);
        // Whoever scrapes is an operator, to whom numbers are told and no names.
        let viewer = Viewer::unrestricted();
        loop {
            match store.summary(&viewer, 0).await {
                Ok(summary) => *self.last() = Some((Instant::now(), summary)),
                Err(error) => debug!(%error, "how the index stands is asked for again"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Registers what is in it, as families of a volume.
    pub fn register(&self, registry: &mut Registry) {
        let own = self.clone();
        let age = move || own.last().as_ref().map(|(at, _)| at.elapsed().as_secs_f64());
        registry.gauge("summary_age_seconds", "How old the copy is of what only the index itself knows", age);
        self.list(registry, "products", "Data products by where they come from", "store", |summary| {
            let other = summary.products.saturating_sub(summary.products_on_volume);
            vec![("volume", summary.products_on_volume as f64), ("other", other as f64)]
        });
        let mut of = |name, help, read: fn(&Summary) -> Option<f64>| {
            let own = self.clone();
            registry.gauge(name, help, move || own.last().as_ref().and_then(|(_, summary)| read(summary)));
        };
        of("index_lease_alive", "Whether some indexer holds the lease and was heard of lately", |summary| {
            summary.coordination.as_ref().map(|state| is(state.indexer_alive))
        });
        of("index_epoch", "How often the lease changed hands since the index was made", |summary| {
            summary.coordination.as_ref().map(|state| state.epoch as f64)
        });
        of("reindex_waiting", "Whether a reindex was asked for and has not begun", |summary| {
            summary.coordination.as_ref().map(|state| is(state.reindex_waits))
        });
        of("index_readable", "Whether the indexer could read the volume when it walked it last", |summary| {
            Some(is(summary.indexing.volume_error.is_none()))
        });
        of("files_failing", "Metadata files that do not read", |summary| Some(summary.failing as f64));
        of("folders_unreadable", "Folders that may not be listed or opened", |summary| {
            Some(summary.indexing.unreadable.count as f64)
        });
        of("sdp_flows", "Flows of the SDP configuration database that are shown", |summary| {
            summary.sdp.as_ref().map(|sdp| sdp.flows as f64)
        });
        self.list(registry, "source_up", "Whether a source beside the volume is followed", "source", |summary| {
            let sdp = summary.sdp.as_ref().map(|sdp| ("sdp", is(sdp.connected && sdp.watcher_connected)));
            let dlm = summary.dlm.as_ref().map(|dlm| ("dlm", is(dlm.accessible)));
            sdp.into_iter().chain(dlm).collect()
        });
        self.list(registry, "source_passed_over", "Entries of a source that cannot be used", "source", |summary| {
            let sdp = summary.sdp.as_ref().map(|sdp| ("sdp", sdp.passed_over as f64));
            let dlm = summary.dlm.as_ref().map(|dlm| ("dlm", dlm.passed_over as f64));
            sdp.into_iter().chain(dlm).collect()
        });
    }

    /// Registers a family of several gauges.
    fn list(
        &self,
        registry: &mut Registry,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: fn(&Summary) -> Vec<(&'static str, f64)>,
    ) {
        let own = self.clone();
        registry.gauges(name, help, label, move || {
            own.last().as_ref().map(|(_, summary)| read(summary)).unwrap_or_default()
        });
    }

    fn last(&self) -> MutexGuard<'_, Option<(Instant, Summary)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what is known, once nobody asks any more.
struct Forget<'a>(&'a Copy);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        *self.0.last() = None;
    }
}

fn is(so: bool) -> f64 {
    f64::from(u8::from(so))
}
