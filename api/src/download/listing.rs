//! What a folder holds, name by name, in order and in little memory.

use super::plan::Kind;
use super::version::{Time, Version};
use rustix::fs::{Access, AtFlags, Dir, FileType, Stat, accessat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many names one thread looks at before another is worth its while.
const SHARE: usize = 64;

/// A folder's names, sorted by their bytes, each with what was found under it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    names: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Item {
    begin: u32,
    length: u16,
    facts: Option<Facts>,
}

/// What there is under a name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// `None`: neither file nor folder nor link.
    pub(super) kind: Option<Kind>,
    pub(super) mode: u16,
    pub(super) version: Version,
    /// Whether it may be read. Asked of files alone: that of a folder shows when it is opened.
    pub(super) readable: bool,
}

impl Facts {
    pub(super) fn of(stat: &Stat) -> Facts {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Some(Kind::File),
            FileType::Directory => Some(Kind::Folder),
            FileType::Symlink => Some(Kind::Link),
            _ => None,
        };
        Facts { kind, mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0), version: version(stat), readable: true }
    }
}

/// The version of what was looked at.
pub(super) fn version(stat: &Stat) -> Version {
    Version {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        inode: stat.st_ino,
        modified: Time::new(stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        changed: Time::new(stat.st_ctime, u32::try_from(stat.st_ctime_nsec).unwrap_or(0)),
    }
}

impl Listing {
    /// Reads an open folder, with so many threads: they hide the latency of a network file system. What is gone when it
    /// is looked at is left out.
    pub(super) fn read(folder: OwnedFd, threads: usize, cancelled: &AtomicBool) -> io::Result<Listing> {
        let mut folder = Dir::new(folder)?;
        let mut listing = Listing::default();
        while let Some(entry) = folder.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let begin = u32::try_from(listing.names.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
                let length = u16::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidFilename)?;
                listing.items.push(Item { begin, length, facts: None });
                listing.names.extend_from_slice(name);
            }
        }
        let Listing { names, items } = &mut listing;
        items.sort_unstable_by(|a, b| a.name(names).cmp(b.name(names)));
        look(folder.fd()?, names, items, threads, cancelled)?;
        items.retain(|item| item.facts.is_some());
        Ok(listing)
    }

    /// Whether something is under this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.items.binary_search_by(|item| item.name(&self.names).cmp(name.as_bytes())).is_ok()
    }

    /// What comes at a place in the order.
    pub(super) fn get(&self, at: usize) -> Option<(&OsStr, Facts)> {
        let item = self.items.get(at)?;
        Some((OsStr::from_bytes(item.name(&self.names)), item.facts?))
    }
}

impl Item {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        &names[self.begin as usize..self.begin as usize + usize::from(self.length)]
    }
}

/// Whether a file may be read, as far as can be told without opening it. Where the kernel or a sandbox does not answer,
/// and where it went meanwhile, that shows when it is opened.
fn may_be_read(folder: BorrowedFd<'_>, name: &[u8]) -> bool {
    match accessat(folder, name, Access::READ_OK, AtFlags::EACCESS) {
        Ok(()) | Err(Errno::NOENT | Errno::NOSYS | Errno::PERM | Errno::INVAL) => true,
        Err(_) => false,
    }
}

fn look(
    folder: BorrowedFd<'_>,
    names: &[u8],
    items: &mut [Item],
    threads: usize,
    cancelled: &AtomicBool,
) -> io::Result<()> {
    let some = |items: &mut [Item]| {
        for item in items {
            if cancelled.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            item.facts = match statat(folder.as_fd(), item.name(names), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    let facts = Facts::of(&stat);
                    let readable = facts.kind != Some(Kind::File) || may_be_read(folder, item.name(names));
                    Some(Facts { readable, ..facts })
                }
                Err(Errno::NOENT) => None,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(())
    };
    let share = items.len().div_ceil(threads.max(1)).max(SHARE);
    if items.len() <= share {
        return some(items);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.chunks_mut(share).map(|items| scope.spawn(|| some(items))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))))
    })
}
