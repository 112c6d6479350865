//! The bytes of an archive, or of one file, from one position to another.

use super::content::{Broken, Content, Trouble};
use super::plan::{Index, Place, Plan, as_path};
use shared::volume::{Access, Root, Volume};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// What a download reads from.
pub(crate) trait Source: Send + 'static {
    /// Adds bytes until `into` has `room`, or all are there. May wait for the disk.
    fn fill(&mut self, room: usize, into: &mut Vec<u8>) -> Result<(), Broken>;
    /// How many bytes are still to come.
    fn left(&self) -> u64;
    /// Called when it turned out that it cannot be read to its end.
    fn broken(&self) {}
}

/// A part of an archive.
pub(super) struct Archive<F> {
    volume: Arc<Volume>,
    plan: Arc<Plan>,
    part: Range<u64>,
    /// The file that was read last, if there is more of it to come.
    open: Option<(Index, Content)>,
    broken: F,
}

/// The folder whose files are being read. It is not kept for long: a handle would hold on to a folder that is unmounted.
struct Beside<'a> {
    root: Root<'a>,
    folder: Option<(Option<Index>, OwnedFd)>,
}

impl<F> Archive<F> {
    /// A part of what is planned, and what to do when it turns out that the plan does not hold.
    pub(super) fn new(volume: Arc<Volume>, plan: Arc<Plan>, part: Range<u64>, broken: F) -> Archive<F> {
        Archive { volume, plan, part, open: None, broken }
    }

    fn step(&mut self, beside: &mut Beside<'_>, want: usize, into: &mut Vec<u8>) -> Result<(), Broken> {
        let most = |bytes: u64| usize::try_from(bytes).map_or(want, |bytes| bytes.min(want));
        match self.plan.place(self.part.start) {
            Place::Header(index, skip) => {
                let header = self.plan.header(index);
                let rest = header.get(usize::try_from(skip).unwrap_or(usize::MAX)..).unwrap_or_default();
                into.extend_from_slice(&rest[..rest.len().min(want)]);
            }
            Place::Content(index, at) => {
                let left = self.plan.version(index).size - at;
                let want = most(left);
                let read = self.content(beside, index).and_then(|content| {
                    content.read(at, want, into)?;
                    let ends = want as u64 == left || self.part.start + want as u64 == self.part.end;
                    if ends { content.recheck() } else { Ok(()) }.map(|()| (index, content))
                });
                let (index, content) = read.map_err(|trouble| trouble.of(as_path(&self.plan.path(index))))?;
                self.open = (want as u64 != left).then_some((index, content));
            }
            Place::Zeros(zeros) => into.resize(into.len() + most(zeros), 0),
            Place::End => {}
        }
        Ok(())
    }

    fn content(&mut self, beside: &mut Beside<'_>, index: Index) -> Result<Content, Trouble> {
        match self.open.take() {
            Some((open, content)) if open == index => Ok(content),
            _ => {
                let folder = beside.folder(&self.plan, self.plan.folder(index))?;
                Content::open(folder, self.plan.own_name(index))?.checked(self.plan.version(index))
            }
        }
    }
}

impl Beside<'_> {
    fn folder(&mut self, plan: &Plan, wanted: Option<Index>) -> Result<&OwnedFd, Trouble> {
        if self.folder.as_ref().is_none_or(|(is, _)| *is != wanted) {
            let path = wanted.map_or_else(|| b".".to_vec(), |index| plan.path(index));
            let open = self.root.open_listable(as_path(&path)).map_err(|error| Trouble::io(&error))?;
            self.folder = Some((wanted, open));
        }
        match &self.folder {
            Some((_, open)) => Ok(open),
            None => Err(Trouble::errno(rustix::io::Errno::NOENT)),
        }
    }
}

impl<F: Fn(&Arc<Plan>) + Send + 'static> Source for Archive<F> {
    fn fill(&mut self, room: usize, into: &mut Vec<u8>) -> Result<(), Broken> {
        let volume = self.volume.clone();
        let _timed = volume.begin(Access::Read);
        let root = volume.open().map_err(|error| Trouble::io(&error).of(volume.path()))?;
        let mut beside = Beside { root, folder: None };
        while into.len() < room && self.left() > 0 {
            let before = into.len();
            let want = usize::try_from(self.left()).map_or(room, |left| left.min(room - before)).min(room - before);
            self.step(&mut beside, want, into)?;
            self.part.start += (into.len() - before) as u64;
        }
        Ok(())
    }

    fn left(&self) -> u64 {
        self.part.end - self.part.start
    }

    fn broken(&self) {
        (self.broken)(&self.plan);
    }
}

/// A part of one file, which is open already.
pub(crate) struct One {
    content: Content,
    path: PathBuf,
    part: Range<u64>,
}

impl One {
    /// A part of a file. `path` is for the log.
    pub(crate) fn new(content: Content, path: PathBuf, part: Range<u64>) -> One {
        One { content, path, part }
    }
}

impl Source for One {
    fn fill(&mut self, room: usize, into: &mut Vec<u8>) -> Result<(), Broken> {
        let want = usize::try_from(self.left()).map_or(room, |left| left.min(room)).saturating_sub(into.len());
        let read = self.content.read(self.part.start, want, into);
        self.part.start += want as u64;
        let checked = read.and_then(|()| if self.left() == 0 { self.content.recheck() } else { Ok(()) });
        checked.map_err(|trouble| trouble.of(&self.path))
    }

    fn left(&self) -> u64 {
        self.part.end - self.part.start
    }
}
