//! Planning an archive: a walk of its folders, which reads no file. And looking again, whether a plan still holds.

use super::listing::{Facts, Listing, version};
use super::plan::{Builder, Index, Kind, New, Plan, TooLarge, as_path};
use super::select::{Selection, prunes};
use super::version::Version;
use cap_std::fs::Dir;
use rustix::fs::{AtFlags, fstat, readlinkat, statat};
use shared::volume::{Root, Volume, is_gone, leads_out};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How many of the things that are left out of an archive, or cannot be read, are named in the log.
const NAMED: usize = 20;
/// How many entries a thread looks at before it asks whether there is time for more.
const SHARE: usize = 1024;

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum NoPlan {
    /// The storage path cannot be opened.
    NotMounted(io::Error),
    /// None of the folders is there any more.
    Gone,
    TooLarge,
    /// Nobody wants it any more.
    Cancelled,
}

impl From<TooLarge> for NoPlan {
    fn from(_: TooLarge) -> NoPlan {
        NoPlan::TooLarge
    }
}

/// A folder that is being walked.
struct Frame {
    path: PathBuf,
    /// Its entry; the storage path has none.
    index: Option<Index>,
    listing: Listing,
    next: usize,
    /// Whether nothing in it is a product, whatever is there.
    pruned: bool,
}

struct Walk<'a> {
    volume: &'a Volume,
    root: Root<'a>,
    selection: &'a Selection,
    threads: usize,
    cancelled: &'a AtomicBool,
    builder: Builder,
    /// How many there were to be named in the log.
    named: usize,
}

/// Plans an archive. Entries are sorted, folder by folder, by the bytes of their names.
pub(super) fn plan(
    volume: &Volume,
    selection: &Selection,
    threads: usize,
    cancelled: &AtomicBool,
) -> Result<Plan, NoPlan> {
    let root = volume.open().map_err(NoPlan::NotMounted)?;
    let builder = Builder::default();
    let mut walk = Walk { volume, root, selection, threads, cancelled, builder, named: 0 };
    let mut found = false;
    for folder in &selection.folders {
        found |= walk.tree(Path::new(folder.as_path()), volume.prunes_any(folder))?;
    }
    walk.check()?;
    if walk.named > NAMED {
        info!(count = walk.named, "more was left out of a download, or cannot be read, than is named here");
    }
    if found { Ok(walk.builder.finish()) } else { Err(NoPlan::Gone) }
}

impl<'a> Walk<'a> {
    /// Adds a folder and all that is in it. Answers whether it is there.
    fn tree(&mut self, top: &Path, pruned: bool) -> Result<bool, NoPlan> {
        let Some(frame) = self.enter(top.to_owned(), None, top, pruned, &Facts::default())? else { return Ok(false) };
        let mut frames = vec![frame];
        while let Some(frame) = frames.last_mut() {
            let Some((name, facts)) = frame.listing.get(frame.next) else {
                frames.pop();
                continue;
            };
            frame.next += 1;
            let path = if frame.path == Path::new(".") { name.into() } else { frame.path.join(name) };
            let index = frame.index;
            match facts.kind {
                Some(Kind::Folder) => {
                    let pruned = frame.pruned || prunes(self.volume, name);
                    let own = PathBuf::from(name);
                    frames.extend(self.enter(path, index, &own, pruned, &facts)?);
                }
                Some(Kind::File) => {
                    let own = PathBuf::from(name);
                    if !facts.readable {
                        self.name(&path, "may not be read, and so cannot be downloaded");
                    }
                    self.add(index, Kind::File, own.as_os_str().as_bytes(), &[], &facts)?;
                }
                Some(Kind::Link) => {
                    let own = PathBuf::from(name);
                    self.link(&path, index, &own, &facts)?;
                }
                None => self.leave_out(&path, "neither file nor folder nor link"),
            }
        }
        Ok(true)
    }

    /// Begins a folder: adds its entry and reads what is in it. `None` where it is gone, cannot be read, or is hidden: then
    /// what the caller may see in it is added instead. `seen` is what was found under its name.
    fn enter(
        &mut self,
        path: PathBuf,
        folder: Option<Index>,
        own: &Path,
        pruned: bool,
        seen: &Facts,
    ) -> Result<Option<Frame>, NoPlan> {
        self.check()?;
        if self.selection.hides(&path) {
            return self.what_is_visible_in(&path);
        }
        let listed = self.root.open_listable(&path).and_then(|open| {
            let facts = Facts::of(&fstat(&open)?);
            Ok((facts, Listing::read(open, self.threads, self.cancelled)?))
        });
        let (facts, listing) = match listed {
            Ok(listed) => listed,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => {
                self.check()?;
                self.name(&path, &format!("cannot be read, and so not be downloaded: {error}"));
                let seen = Facts { readable: false, ..*seen };
                self.add(folder, Kind::Folder, own.as_os_str().as_bytes(), &[], &seen)?;
                return Ok(None);
            }
        };
        if !pruned && !self.selection.visible.has(&path) && listing.has(&self.volume.origin().metadata_file) {
            return self.what_is_visible_in(&path);
        }
        let index = match path == Path::new(".") {
            true => None,
            false => Some(self.add(folder, Kind::Folder, own.as_os_str().as_bytes(), &[], &facts)?),
        };
        Ok(Some(Frame { path, index, listing, next: 0, pruned }))
    }

    /// Adds what the caller may see in a folder that is hidden from him.
    fn what_is_visible_in(&mut self, hidden: &Path) -> Result<Option<Frame>, NoPlan> {
        for inner in self.selection.visible.outermost_in(hidden) {
            self.tree(&inner, false)?;
        }
        Ok(None)
    }

    /// A link is archived as one, unless it cannot be followed, for whatever reason, or leads out of the storage path:
    /// what is wrong beyond a link is no fault of the product.
    fn link(&mut self, path: &Path, folder: Option<Index>, own: &Path, facts: &Facts) -> Result<(), NoPlan> {
        let followed = self.root.reach(path, |dir, rest| {
            dir.metadata(rest)?;
            Ok(readlinkat(dir, rest, Vec::new())?)
        });
        match followed {
            Ok(target) => {
                self.add(folder, Kind::Link, own.as_os_str().as_bytes(), target.as_bytes(), facts).map(drop)?;
            }
            Err(error) if leads_out(&error) || is_gone(&error) => {
                self.leave_out(path, "a link that leads nowhere on the volume");
            }
            Err(error) => self.leave_out(path, &format!("a link that cannot be followed ({error})")),
        }
        Ok(())
    }

    fn add(
        &mut self,
        folder: Option<Index>,
        kind: Kind,
        name: &[u8],
        target: &[u8],
        facts: &Facts,
    ) -> Result<Index, NoPlan> {
        let Facts { mode, version, readable, .. } = *facts;
        Ok(self.builder.add(folder, &New { kind, name, target, mode, version, readable })?)
    }

    fn leave_out(&mut self, path: &Path, what: &str) {
        self.name(path, &format!("is {what} and is left out of a download"));
    }

    fn name(&mut self, path: &Path, what: &str) {
        self.named += 1;
        if self.named <= NAMED {
            warn!("{} {what}", path.display());
        }
    }

    fn check(&self) -> Result<(), NoPlan> {
        if self.cancelled.load(Ordering::Relaxed) { Err(NoPlan::Cancelled) } else { Ok(()) }
    }
}

/// Whether what was planned is still there as it was. All folders are looked at, so that nothing came, went or was
/// renamed; then as many files as there is `patience` for. The others are looked at when they are read.
pub(super) fn holds(volume: &Volume, plan: &Plan, patience: Duration, threads: usize, cancelled: &AtomicBool) -> bool {
    let Ok(root) = volume.open() else { return false };
    let is_same = |index: Index| {
        let (path, planned) = (plan.path(index), plan.version(index));
        let look = |dir: &Dir, rest: &Path| Ok(statat(dir, rest, AtFlags::SYMLINK_NOFOLLOW)?);
        let found = root.reach(as_path(&path), look);
        found.is_ok_and(|stat| {
            let (facts, found) = (Facts::of(&stat), version(&stat));
            let same = facts.kind == Some(plan.kind(index)) && facts.mode == plan.mode(index);
            let sized = plan.kind(index) != Kind::File || found.size == planned.size;
            same && Version { size: planned.size, ..found } == planned && sized
        })
    };
    let end = Instant::now() + patience;
    let all = |of: &(dyn Fn(Kind) -> bool + Sync), bounded: bool| {
        let next = AtomicUsize::new(0);
        let some = || {
            loop {
                let begin = next.fetch_add(SHARE, Ordering::Relaxed);
                let late = bounded && Instant::now() >= end;
                if begin >= plan.len() || late || cancelled.load(Ordering::Relaxed) {
                    return true;
                }
                let mut indexes = plan.indexes(begin..begin + SHARE).filter(|index| of(plan.kind(*index)));
                if !indexes.all(is_same) {
                    return false;
                }
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads.min(plan.len() / SHARE)).map(|_| scope.spawn(some)).collect();
            let own = some();
            others.into_iter().fold(own, |all, other| other.join().unwrap_or(false) && all)
        })
    };
    all(&|kind| kind == Kind::Folder, false) && all(&|kind| kind != Kind::Folder, true)
}
