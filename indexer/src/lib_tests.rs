//! Walks in their time.

use super::*;
use shared::config::{Settings, Variables};
use shared::store::memory::MemoryStore;
use std::fs;

/// Indexes until a walk that somebody waits for has ended, and tells how it stands then.
async fn index_once(path: &std::path::Path, store: &Arc<dyn Store>, timeout: Option<Duration>) -> Indexing {
    let before = stands(store).await.ended;
    let settings = Settings::read(&Variables::default(), path.to_str().map(str::to_owned)).expect("settings");
    let mut indexing = settings.indexing;
    indexing.timeout = timeout.unwrap_or(indexing.timeout);
    let volume = Arc::new(Volume::new(&settings.volume));
    let indexer = tokio::spawn(run(volume, store.clone(), indexing, None, Default::default()));
    let mut stand = stands(store).await;
    while stand.in_progress || stand.ended == before {
        tokio::task::yield_now().await;
        stand = stands(store).await;
    }
    indexer.abort();
    // One that still noticed something would write it.
    let _ = indexer.await;
    stand
}

async fn stands(store: &Arc<dyn Store>) -> Indexing {
    store.summary(&Viewer::anonymous(), 0).await.expect("a summary").indexing
}

async fn products(store: &Arc<dyn Store>) -> u64 {
    store.summary(&Viewer::anonymous(), 0).await.expect("a summary").products
}

#[tokio::test]
async fn a_walk_that_runs_out_of_time_keeps_what_there_is() {
    let volume = tempfile::tempdir().expect("a folder");
    let folder = |n| volume.path().join(format!("eb-{n}"));
    for n in 0..50 {
        fs::create_dir(folder(n)).expect("a folder");
        let metadata = format!("execution_block: eb-a-20240101-{n}");
        fs::write(folder(n).join("ska-data-product.yaml"), metadata).expect("a file");
    }
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let whole = index_once(volume.path(), &store, None).await;
    assert_eq!((whole.progress.indexing_step, whole.last_run.timed_out), (Step::Completed, false));
    assert_eq!((whole.progress.files_added, products(&store).await), (50, 50));
    for n in 0..10 {
        fs::remove_dir_all(folder(n)).expect("removed");
    }
    let cut_off = index_once(volume.path(), &store, Some(Duration::ZERO)).await;
    assert_eq!((cut_off.progress.indexing_step, cut_off.last_run.timed_out), (Step::TimedOut, true));
    assert_eq!(products(&store).await, 50);
    let whole = index_once(volume.path(), &store, None).await;
    assert_eq!((whole.progress.files_skipped, whole.progress.files_added), (40, 0));
    assert_eq!(products(&store).await, 40);
}
