//! Plans that are kept for a while, so that a download that resumes, or comes in many parts, is not planned each time.
//!
//! A plan is kept under what it was made from: the folders, and which products in them its caller may see and may not. So nobody gets
//! one that shows what is hidden from him. Before a plan is used again it is looked at whether it holds.

use super::plan::Plan;
use super::select::Selection;
use super::walk::{self, NoPlan};
use crate::Api;
use crate::error::{ApiError, Result};
use sha2::{Digest, Sha256};
use shared::clock;
use shared::folder::Folder;
use shared::metrics::{Counter, Family, Histogram, Label, Registry};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// How long a plan is kept after it was last of use.
const KEPT: Duration = Duration::from_secs(600);
/// How much memory all plans that are kept may take, in bytes, and how many there may be: small ones are soon made anew.
pub(super) const MEMORY: usize = 80 << 20;
const MOST: usize = 1000;
/// How often it is looked whether plans have been kept for long enough.
const SWEEP: Duration = Duration::from_secs(30);
/// How many plans are made at once: each takes memory and threads.
const AT_ONCE: usize = 8;
/// How long to look whether a kept plan's files are as they were. What there is no time for is found when it is read.
const PATIENCE: Duration = Duration::from_millis(300);

type Key = [u8; 32];

#[derive(Debug)]
struct Kept {
    plan: Arc<Plan>,
    used: Instant,
}

/// The plans that are kept.
#[derive(Debug)]
pub(crate) struct Plans {
    kept: Mutex<HashMap<Key, Kept>>,
    /// Where a plan is being made, those wait who want the same.
    gates: Mutex<HashMap<Key, Weak<tokio::sync::Mutex<()>>>>,
    places: Semaphore,
    /// Whether somebody sweeps.
    sweeping: AtomicBool,
    took: Histogram,
    made: Family<Label, Counter>,
}

impl Default for Plans {
    fn default() -> Self {
        let (kept, gates, sweeping) = Default::default();
        let made = Family::default();
        for result in ["kept", "made", "failed"] {
            drop(made.get_or_create_owned(&[("result", result)]));
        }
        // Those of a million files take minutes.
        let took = Histogram::new([0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]);
        Plans { kept, gates, places: Semaphore::new(AT_ONCE), sweeping, took, made }
    }
}

/// Tells the thread that works for a request when nobody waits for its answer any more.
#[derive(Default)]
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Plans {
    /// How many are kept, and how many bytes they take.
    pub(crate) fn held(&self) -> (usize, usize) {
        let kept = self.kept();
        (kept.len(), kept.values().map(|kept| kept.plan.bytes()).sum())
    }

    /// Registers how plans came about for metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("download_plan_seconds", "How long it took to plan archives", self.took.clone());
        let help = "Plans of archives by how they came about: kept from before, made anew, or not to be made";
        registry.register("download_plans", help, self.made.clone());
    }

    fn count(&self, result: &'static str) {
        self.made.get_or_create(&[("result", result)]).inc();
    }

    /// Forgets a plan that turned out not to hold.
    pub(super) fn forget(&self, plan: &Arc<Plan>) {
        self.kept().retain(|_, kept| !Arc::ptr_eq(&kept.plan, plan));
    }

    fn get(&self, key: &Key) -> Option<Arc<Plan>> {
        let mut kept = self.kept();
        kept.retain(|_, kept| kept.used.elapsed() < KEPT);
        kept.get_mut(key).map(|kept| {
            kept.used = Instant::now();
            kept.plan.clone()
        })
    }

    fn keep(&self, key: Key, plan: &Arc<Plan>) {
        let mut kept = self.kept();
        kept.insert(key, Kept { plan: plan.clone(), used: Instant::now() });
        let is_much = |kept: &HashMap<Key, Kept>| {
            kept.len() > MOST || kept.values().map(|kept| kept.plan.bytes()).sum::<usize>() > MEMORY
        };
        while is_much(&kept) {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key);
            oldest.map(|oldest| kept.remove(&oldest));
        }
    }

    fn gate(&self, key: Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| gate.strong_count() > 0);
        gates.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let gate = Arc::default();
            gates.insert(key, Arc::downgrade(&gate));
            gate
        })
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The plan of a selection: one that is kept and holds, or a new one.
pub(crate) async fn plan(api: &Arc<Api>, selection: &Selection) -> Result<Arc<Plan>> {
    let key = key(selection);
    let known = api.plans.get(&key);
    if let Some(plan) = &known
        && holds(api, plan).await?
    {
        api.plans.count("kept");
        return Ok(plan.clone());
    }
    let gate = api.plans.gate(key);
    let _alone = gate.lock().await;
    // Somebody else may have made it meanwhile.
    let same = |plan: &Arc<Plan>| known.as_ref().is_some_and(|known| Arc::ptr_eq(known, plan));
    if let Some(plan) = api.plans.get(&key).filter(|plan| !same(plan)) {
        api.plans.count("kept");
        return Ok(plan);
    }
    let begun = Instant::now();
    let plan = made(api, selection).await;
    api.plans.count(if plan.is_ok() { "made" } else { "failed" });
    api.plans.took.observe(begun.elapsed().as_secs_f64());
    let plan = Arc::new(plan?);
    // The storage path itself has no entry to be looked at, so that what comes there would not be seen. Nor would what
    // comes to a folder in the tick in which it was listed.
    let is_settled = plan.settled() <= clock::now().timestamp_nanos_opt().unwrap_or(i64::MAX);
    // What may not be read may be allowed without any change to it.
    let is_whole = plan.unreadable().is_none();
    if is_settled && is_whole && !selection.folders.iter().any(Folder::is_root) {
        api.plans.keep(key, &plan);
        if !api.plans.sweeping.swap(true, Ordering::AcqRel) {
            tokio::spawn(sweep(Arc::downgrade(api)));
        }
    }
    Ok(plan)
}

/// Frees the memory of plans that have been kept for long enough, until there are none.
async fn sweep(api: Weak<Api>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(api) = api.upgrade() else { return };
        let mut kept = api.plans.kept();
        kept.retain(|_, kept| kept.used.elapsed() < KEPT);
        if kept.is_empty() {
            // Under the lock: who puts one in afterwards sees to it that somebody sweeps.
            api.plans.sweeping.store(false, Ordering::Release);
            return;
        }
    }
}

fn key(selection: &Selection) -> Key {
    let mut digest = Sha256::new();
    let folders = selection.folders.iter().map(|folder| folder.as_path().as_bytes());
    let [visible, hidden] = [&selection.visible, &selection.hidden]
        .map(|of| of.iter().map(|folder| folder.as_os_str().as_bytes()).chain([&b""[..]]));
    // No path holds a NUL, and none is empty.
    for path in folders.chain([&b""[..]]).chain(visible).chain(hidden) {
        digest.update(path);
        digest.update([0]);
    }
    digest.finalize().into()
}

async fn holds(api: &Arc<Api>, plan: &Arc<Plan>) -> Result<bool> {
    let (cancel, api, plan) = (Cancel::default(), api.clone(), plan.clone());
    let cancelled = cancel.0.clone();
    let look = move || walk::holds(&api.volume, &plan, PATIENCE, api.indexing.workers, &cancelled);
    tokio::task::spawn_blocking(look).await.map_err(|_| ApiError::Internal)
}

async fn made(api: &Arc<Api>, selection: &Selection) -> Result<Plan> {
    let _place = api.plans.places.acquire().await.map_err(|_| ApiError::Internal)?;
    let (cancel, begun) = (Cancel::default(), Instant::now());
    let (api, selection, cancelled) = (api.clone(), selection.clone(), cancel.0.clone());
    let planning = tokio::task::spawn_blocking(move || {
        debug!("planning a download");
        let plan = walk::plan(&api.volume, &selection, api.indexing.workers, &cancelled);
        if cancelled.load(Ordering::Relaxed) {
            debug!("nobody waits for a download that was being planned");
        }
        plan
    });
    let plan = planning.await.map_err(|_| ApiError::Internal)?.map_err(refusal)?;
    debug!(entries = plan.len(), bytes = plan.bytes(), took = ?begun.elapsed(), "planned a download");
    Ok(plan)
}

fn refusal(error: NoPlan) -> ApiError {
    match error {
        NoPlan::NotMounted(error) => {
            warn!(%error, "the volume cannot be opened");
            let detail = "The volume is not mounted where this service runs, so it has no files to give.";
            ApiError::NotFound(detail.to_owned())
        }
        NoPlan::Gone => {
            ApiError::NotFound("The volume does not hold the files of this data product any more.".to_owned())
        }
        NoPlan::TooLarge => ApiError::Unprocessable(
            "This is more than one archive can hold: download its data products, or their files, one by one."
                .to_owned(),
        ),
        NoPlan::Cancelled => ApiError::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download::select::Folders;

    #[test]
    fn plans_are_kept_for_those_who_may_see_the_same() {
        let all = |names: &[&str]| names.iter().map(|name| name.parse().expect("a folder")).collect::<Folders>();
        let hiding = |folders: &[&str], visible: &[&str], hidden: &[&str]| Selection {
            folders: folders.iter().map(|folder| folder.parse().expect("a folder")).collect(),
            visible: all(visible),
            hidden: all(hidden),
            name: "whatever".to_owned(),
        };
        let selection = |folders: &[&str], visible: &[&str]| hiding(folders, visible, &[]);
        let keys = [
            key(&selection(&["eb"], &["eb"])),
            key(&selection(&["eb"], &["eb", "eb/inner"])),
            key(&selection(&["eb"], &["eb", "eb/other"])),
            key(&selection(&["eb", "eb/inner"], &["eb"])),
            key(&selection(&["eb", "other"], &["eb", "other"])),
            key(&selection(&["eb"], &["eb", "other"])),
            key(&hiding(&["eb"], &["eb"], &["eb/inner"])),
            key(&hiding(&["eb"], &["eb"], &["eb/inner", "eb/other"])),
        ];
        assert!((1..keys.len()).all(|n| !keys[..n].contains(&keys[n])));
        assert_eq!(key(&selection(&["eb"], &["eb"])), keys[0]);
    }
}
