//! From a hint to a change: workers look at folders, read metadata files, and hand what they find to the
//! [writer](crate::write).

use crate::metrics::Meters;
use crate::mounts::Mounts;
use crate::queue::{Haste, Hint, Queue, Subject, Turn};
use crate::run::{Kind, Settle, Ticket};
use crate::sdp::Mirror;
use crate::told::Told;
use crate::unchanged::Memory;
use crate::unreadable::Shut;
use crate::watch::Watch;
use crate::write::Item;
use shared::clock;
use shared::folder::{Folder, MAX_BYTES};
use shared::status::Failing;
use shared::store::Change;
use shared::volume::{Identity, Open, Own, ReadError, Root, Stamp, Volume, is_gone};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{debug, error, warn};
use uuid::Uuid;

/// How often a file that does not read is tried again before it is listed as failing, and how long after the first
/// failure. The pause doubles each time.
const RETRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A file that was written longer ago than this is not being written: trying again soon would not help.
const SETTLED: Duration = Duration::from_secs(60);
/// The longest tick of a clock of fine times, several times over.
const TICK: Duration = Duration::from_millis(100);
/// How long a worker that has much to do keeps the storage path open. Opening it anew finds out that it is another folder.
const KEPT_OPEN: Duration = Duration::from_millis(50);

/// Why a folder is not believed to be empty.
const UNMOUNTED: &str = "it is empty, and the file system that was mounted there is not any more";

/// Why a walk of everything was not begun, or not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the storage path cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("the storage path is empty, and not the folder where {0} products were: they stay until it is back")]
    Vanished(usize),
    #[error(
        "the storage path holds no {file} any more, which said that it is volume {expected}: nothing is removed until \
         it is back. Is the volume mounted? If it is, write '{expected}' into {file} there"
    )]
    Unnamed { file: String, expected: Uuid },
    #[error(
        "the storage path holds volume {found}, and not {expected}: nothing is removed until the right one is back"
    )]
    OtherVolume { found: Uuid, expected: Uuid },
}

/// What all workers share.
pub(crate) struct Worker {
    pub(crate) volume: Arc<Volume>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) changes: mpsc::Sender<Item>,
    pub(crate) settle: Settle,
    /// The flows as the configuration database has them.
    pub(crate) flows: Arc<Mirror>,
    /// What walks remember of folders.
    pub(crate) memory: Memory,
    /// The extended attributes that tell of all that is below a folder, and whether the storage path has them.
    pub(crate) tree_attributes: Vec<String>,
    pub(crate) has_trees: AtomicBool,
    /// Folders that may not be read.
    pub(crate) shut: Shut,
    /// File systems that are mounted below the storage path.
    pub(crate) mounts: Mounts,
    /// Files that do not read, each with what was told of it last.
    pub(crate) told: Told,
    pub(crate) meters: Meters,
    /// Which folder the storage path was when it was last walked. Under another one nothing is removed.
    pub(crate) accepted: Mutex<Option<Identity>>,
}

/// The storage path as a worker has it open, and since when.
type KeptOpen<'a> = Option<(Root<'a>, Instant)>;

impl Worker {
    /// Works until the queue is closed.
    pub(crate) fn run(&self) {
        let mut open = None;
        while let Some((subject, hint)) = self.queue.pop(|| open = None) {
            let work = || match &subject {
                Subject::Folder(folder) => self.take(&mut open, folder, hint),
                Subject::Flow(id) => self.flow(id, hint.attempt),
            };
            // A defect met in one place must not end the work on all others.
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                self.meters.defect();
                error!(%subject, "looking at this failed badly; it is passed over");
            }
            self.queue.done(&subject);
        }
    }

    /// Checks that the storage path is what it was, or at least not what is left when a mount went away. `known` is how many
    /// metadata files were known on it.
    pub(crate) fn accept(&self, expected: Option<Uuid>, known: usize) -> Result<(), Refused> {
        let root = self.volume.open()?;
        let identity = root.identity()?;
        if let Some(expected) = expected.filter(|expected| identity.id != Some(*expected)) {
            return Err(match identity.id {
                Some(found) => Refused::OtherVolume { found, expected },
                None => Refused::Unnamed { file: self.volume.id_file().to_owned(), expected },
            });
        }
        let top = Folder::root();
        let storage_path = root.open_to_list(&top)?;
        let empty = storage_path.list()?.empty;
        self.has_trees.store(storage_path.tree(&self.tree_attributes).is_some(), Relaxed);
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if *accepted != Some(identity) {
            // Also where this process sees it for the first time, and finds products that another one left.
            if empty && known > 0 {
                return Err(Refused::Vanished(known));
            }
            // Its watches are on the folder that was there before.
            self.watch.set_anew();
        }
        *accepted = Some(identity);
        Ok(())
    }

    fn take<'a>(&'a self, open: &mut KeptOpen<'a>, folder: &Folder, mut hint: Hint) {
        hint.tickets.retain(|ticket| !ticket.run().is_cancelled());
        if hint.tickets.is_empty() && !hint.read {
            return;
        }
        let root = match self.root(open) {
            Ok(root) => root,
            Err(error) => {
                debug!(%folder, "the volume cannot be opened: {error}");
                self.pass_over(&Folder::root(), &hint);
                return self.queue.lost_hints();
            }
        };
        if hint.list {
            self.list(root, folder, &mut hint);
        }
        if hint.read {
            self.read(root, folder, hint);
        }
    }

    fn root<'a, 'b>(&'a self, open: &'b mut KeptOpen<'a>) -> io::Result<&'b Root<'a>> {
        if open.as_ref().is_none_or(|(_, since)| since.elapsed() > KEPT_OPEN) {
            *open = None;
        }
        match open {
            Some((root, _)) => Ok(root),
            None => Ok(&open.insert((self.volume.open()?, Instant::now())).0),
        }
    }

    /// What is in a folder could not be seen: it stays, and is looked for again.
    fn pass_over(&self, folder: &Folder, hint: &Hint) {
        self.memory.is_restless(folder);
        hint.tickets.iter().for_each(|ticket| ticket.run().reconciliation().pass_over(folder));
    }

    /// Looks at a folder: folders in it are hinted at, and a metadata file that some walk does not know is to be read.
    fn list(&self, root: &Root<'_>, folder: &Folder, hint: &mut Hint) {
        hint.tickets.iter().for_each(|ticket| _ = ticket.run().folders.fetch_add(1, Relaxed));
        match self.look_into(root, folder, hint) {
            Ok(()) => {}
            Err(error) if is_gone(&error) && !folder.is_root() => {
                self.watch.forget(folder);
                self.shut.forget(folder);
            }
            Err(error) => {
                self.watch.refuse(folder);
                self.keep_all_in(folder, &error, hint);
            }
        }
    }

    /// Nothing of what is in a folder can be seen: it stays, and the folder is listed as unreadable.
    fn keep_all_in(&self, folder: &Folder, why: &dyn std::fmt::Display, hint: &Hint) {
        let why = why.to_string();
        if self.shut.note(folder, why.clone()) {
            warn!(%folder, error = %why, "cannot be listed; what is known in it stays");
        }
        self.pass_over(folder, hint);
    }

    fn look_into(&self, root: &Root<'_>, folder: &Folder, hint: &mut Hint) -> io::Result<()> {
        let changes_only = self.memory.leaves_out()
            && !hint.tickets.is_empty()
            && hint.tickets.iter().all(|ticket| ticket.run().kind == Kind::Everything);
        let has_trees = self.has_trees.load(Relaxed);
        if changes_only && !has_trees && self.passes_unlisted(root, folder, &root.look(folder)?, hint) {
            return Ok(());
        }
        let open = root.open_to_list(folder)?;
        if has_trees && self.leaves_out(&open, folder, changes_only, hint) {
            return Ok(());
        }
        // Before all else: whatever changes from now on shows in what it is like next time.
        let own = open.own()?;
        if changes_only && has_trees && self.passes_unlisted(root, folder, &own, hint) {
            return Ok(());
        }
        self.watch.add(folder, open.dir(), &own);
        if hint.is_of_event() {
            self.watch.look_again(folder, &own);
        }
        let mut listing = open.list()?;
        if self.mounts.is_unmounted(folder, &own, listing.empty) {
            self.keep_all_in(folder, &UNMOUNTED, hint);
            return Ok(());
        }
        self.shut.forget(folder);
        self.watch.links(folder, listing.linked);
        if listing.unreadable_names > 0 {
            warn!(%folder, "{} names that are not UTF-8 are passed over", listing.unreadable_names);
        }
        let names = listing.folders.len();
        listing.folders.retain(|name| folder.as_str().len() + name.len() < MAX_BYTES);
        if names > listing.folders.len() {
            let too_long = names - listing.folders.len();
            warn!(%folder, "{too_long} folders whose paths are longer than {MAX_BYTES} bytes are passed over");
        }
        self.memory.listed(folder, &own, &listing);
        self.found(folder, listing.metadata, listing.folders.join("/"), hint);
        Ok(())
    }

    /// Leaves a folder out with all below it where the file system tells that nothing in it changed.
    fn leaves_out(&self, open: &Open<'_>, folder: &Folder, changes_only: bool, hint: &Hint) -> bool {
        let Some(run) = hint.tickets.iter().map(Ticket::run).find(|run| run.number.is_some()) else { return false };
        let unchanged = run.number.zip(open.tree(&self.tree_attributes));
        let unchanged = unchanged.is_some_and(|(number, tree)| self.memory.sees_tree(number, folder, &tree));
        if unchanged && changes_only {
            run.left_out.fetch_add(1, Relaxed);
            run.reconciliation().pass_over(folder);
        }
        unchanged && changes_only
    }

    /// Takes what is in a folder from memory where it did not change. Not where it could be watched and is not: that is
    /// done before it is listed.
    fn passes_unlisted(&self, root: &Root<'_>, folder: &Folder, own: &Own, hint: &mut Hint) -> bool {
        if !self.watch.covers(folder) && self.watch.could_cover(folder, own) {
            return false;
        }
        let Some(unchanged) = self.memory.unchanged(folder, own) else { return false };
        hint.tickets.iter().for_each(|ticket| _ = ticket.run().unlisted.fetch_add(1, Relaxed));
        self.watch.passes(folder);
        let metadata = if unchanged.metadata { root.listed_stamp(folder) } else { None };
        self.found(folder, metadata, unchanged.folders, hint);
        true
    }

    /// Deals with what is in a folder: the version of its metadata file, and the names of folders joined by `/`.
    fn found(&self, folder: &Folder, metadata: Option<Stamp>, folders: String, hint: &mut Hint) {
        for run in hint.tickets.iter().map(Ticket::run) {
            if let Some(stamp) = metadata {
                run.found.fetch_add(1, Relaxed);
                if run.reconciliation().see(folder, stamp) {
                    hint.read = true;
                } else {
                    run.skipped.fetch_add(1, Relaxed);
                }
            }
        }
        let haste = if hint.is_of_event() { Haste::Some } else { Haste::None };
        self.queue.walk_in(folder, folders, hint.tickets.clone(), haste);
    }

    /// Reads a folder's metadata file and hands on what it is.
    fn read(&self, root: &Root<'_>, folder: &Folder, hint: Hint) {
        let told = hint.told_at();
        let read = root.read(folder);
        if self.watch.is_told_of_changes() {
            self.watch.links(folder, root.is_linked(folder));
        }
        let (error, stamp) = match read {
            Ok(mut found) => {
                self.told.forget(folder);
                // Where something tells of a later change, that is heard.
                let is_heard = self.watch.is_told_of_changes() && self.watch.covers(folder);
                if !is_heard && is_doubtful(found.stamp, now()) {
                    // No file is of this version, so the next walk reads it again.
                    found.stamp.changed -= 1;
                }
                return self.send(Change::Found(found), told, hint.tickets);
            }
            Err(ReadError::Missing) => return self.missing(root, folder, hint),
            Err(ReadError::Bad { error, stamp, guarded }) => (Failing::error(&error, guarded), Some(stamp)),
            Err(error) => (error.to_string(), None),
        };
        if hint.attempt < RETRIES && !stamp.is_some_and(is_settled) {
            let pause = FIRST_PAUSE * 2u32.pow(hint.attempt);
            debug!(%folder, attempt = hint.attempt, "the metadata file is tried again: {error}");
            count_failed(&hint.tickets);
            let again = Hint { attempt: hint.attempt + 1, told, ..Hint::read() };
            return self.queue.push(folder.clone(), again, Turn::Due(Instant::now() + pause));
        }
        count_failed(&hint.tickets);
        let path = folder.join(&self.volume.origin().metadata_file).to_string();
        if self.told.is_news(folder, &(&error, stamp)) {
            self.meters.fails();
            warn!(path, %error, "this metadata file does not read");
        }
        self.send(Change::Failing { folder: folder.clone(), path, error, stamp }, told, hint.tickets);
    }

    /// A folder without a metadata file is gone from the index, unless the storage path is not what it was when it was walked
    /// last, if it was, or a file system that it is on is not mounted. The very handle that found nothing must be on that
    /// folder: another may have stood in its place for a moment.
    fn missing(&self, root: &Root<'_>, folder: &Folder, hint: Hint) {
        let accepted = *self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || self.volume.open().and_then(|root| root.identity()).ok();
        if accepted.is_none() || root.identity().ok() != accepted || fresh() != accepted {
            warn!(%folder, "the storage path is another folder than was walked last: nothing is removed until it is walked");
            return self.queue.lost_hints();
        }
        if let Some(point) = self.mounts.at_and_above(folder).iter().find(|point| self.is_unmounted(root, point)) {
            return self.keep_all_in(point, &UNMOUNTED, &hint);
        }
        self.told.forget(folder);
        self.send(Change::Gone(folder.clone()), hint.told_at(), hint.tickets);
    }

    fn is_unmounted(&self, root: &Root<'_>, point: &Folder) -> bool {
        let look = || -> io::Result<bool> {
            let open = root.open_to_list(point)?;
            Ok(self.mounts.is_unmounted(point, &open.own()?, open.list()?.empty))
        };
        look().unwrap_or(false)
    }

    /// Hands a change on of which an event told then, where one did.
    pub(crate) fn send(&self, change: Change, told: Option<Instant>, tickets: Vec<Ticket>) {
        // Fails only when the writer is gone, which is when everything ends.
        let _ = self.changes.blocking_send(Item { change, told, tickets });
    }
}

fn count_failed(tickets: &[Ticket]) {
    for ticket in tickets {
        ticket.run().failed.fetch_add(1, Relaxed);
    }
}

/// Whether a file was last written so long ago that its writer is done.
fn is_settled(stamp: Stamp) -> bool {
    is_older(stamp.modified, SETTLED, now())
}

/// Whether a file that was read at this time, in nanoseconds since 1970, may have been written once more without its version
/// becoming another: within a tick of the clock that gives files their times. One that gives whole seconds may be another
/// machine's, and not go as ours does.
fn is_doubtful(stamp: Stamp, now: i64) -> bool {
    let tick = if stamp.changed % 1_000_000_000 == 0 { SETTLED } else { TICK };
    !is_older(stamp.changed, tick, now)
}

fn is_older(time: i64, than: Duration, now: i64) -> bool {
    now.saturating_sub(time) > i64::try_from(than.as_nanos()).unwrap_or(i64::MAX)
}

fn now() -> i64 {
    clock::now().timestamp_nanos_opt().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_doubted_within_a_tick_of_its_clock() {
        let second = 1_000_000_000;
        for (changed, after, doubtful) in [
            (5 * second + 7, second / 100, true),
            (5 * second + 7, second, false),
            (5 * second, second, true),
            (5 * second, 59 * second, true),
            (5 * second, 61 * second, false),
            // A clock that is ahead of ours.
            (5 * second, -30 * second, true),
        ] {
            let stamp = Stamp { changed, ..Stamp::default() };
            assert_eq!(is_doubtful(stamp, changed + after), doubtful, "{changed} {after}");
        }
    }
}
