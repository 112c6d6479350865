//! Folders looked at and listed, and what they say of themselves, so that one that did not change need not be listed again.

use super::{Access, Root, Stamp, is_gone, nanoseconds};
use crate::folder::Folder;
use rustix::fs::{AtFlags, FileType, Stat, fgetxattr, fstat, statat};
use std::ffi::CStr;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

#[cfg(target_os = "linux")]
/// Room for the entries that one call reads. Each call is a round trip where the volume is far away.
const BUFFER: usize = 32 * 1024;
/// Room for an extended attribute. Those in question hold a number.
const ATTRIBUTE: usize = 64;

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Names of the folders in it that are walked into.
    pub folders: Vec<String>,
    /// The metadata file, where there is one.
    pub metadata: Option<Stamp>,
    /// Whether that is a link, wherever it leads.
    pub linked: bool,
    /// Whether nothing at all is in it.
    pub empty: bool,
    /// How many names in it are not UTF-8 and were passed over.
    pub unreadable_names: usize,
}

/// What a folder itself is like. Names that come to it or go from it show in its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Own {
    /// Where it is, and which it is there.
    pub device: u64,
    #[expect(missing_docs, reason = "see above")]
    pub inode: u64,
    /// When names came or went last, in nanoseconds since 1970.
    pub modified: i64,
    /// When it was changed last in any way, in nanoseconds since 1970.
    pub changed: i64,
}

/// What a file system tells of a folder and all that is below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tree {
    /// When anything was changed last, in seconds since 1970.
    pub changed: i64,
    /// All that it tells, to be compared with what it told before.
    pub told: Vec<u8>,
}

/// A folder that was opened to be listed.
#[derive(Debug)]
pub struct Open<'a> {
    dir: OwnedFd,
    folder: &'a Folder,
    root: &'a Root<'a>,
}

impl Own {
    fn of(stat: &Stat) -> Own {
        let Stamp { inode, modified, changed, .. } = Stamp::of_stat(stat);
        #[cfg_attr(target_os = "linux", expect(clippy::useless_conversion, reason = "elsewhere it is a signed number"))]
        let device = u64::try_from(stat.st_dev).unwrap_or_default();
        Own { device, inode, modified, changed }
    }
}

impl Root<'_> {
    /// Lists a folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn list(&self, folder: &Folder) -> io::Result<Listing> {
        self.open_to_list(folder)?.list()
    }

    /// Opens a folder to list it.
    ///
    /// # Errors
    /// Those of the file system; a link is no folder.
    pub fn open_to_list<'a>(&'a self, folder: &'a Folder) -> io::Result<Open<'a>> {
        let dir = self.open_listable(folder.as_path())?;
        Ok(Open { dir, folder, root: self })
    }

    /// What a folder itself is like, without opening it. For comparing only: what is on the way to it may be a link.
    ///
    /// # Errors
    /// Those of the file system; a link is no folder.
    pub fn look(&self, folder: &Folder) -> io::Result<Own> {
        let _timed = self.volume.access(Access::Look, folder.as_path());
        let stat = statat(&self.dir, folder.as_path(), AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Own::of(&stat)),
            _ => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// The version of the metadata file of a folder in which it was listed, as a listing gives it: see [`Listing`].
    pub fn listed_stamp(&self, folder: &Folder) -> Option<Stamp> {
        let path = folder.join(&self.volume.origin.metadata_file);
        self.listed_stamp_at(self.dir.as_fd(), path.as_str(), folder).map(|(stamp, _)| stamp)
    }

    /// Whether the metadata file of a folder is a link, wherever it leads.
    pub fn is_linked(&self, folder: &Folder) -> bool {
        let path = folder.join(&self.volume.origin.metadata_file);
        let _timed = self.volume.access(Access::Look, path.as_str());
        statat(&self.dir, path.as_str(), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|own| FileType::from_raw_mode(own.st_mode) == FileType::Symlink)
    }

    /// The version of the metadata file in a folder that lists it, and whether it is a link. A link that leads nowhere still
    /// has a version, its own, so that reading it fails and says so; so has a file that may not be looked at.
    fn listed_stamp_at(&self, dir: BorrowedFd<'_>, path: &str, folder: &Folder) -> Option<(Stamp, bool)> {
        let timed = self.volume.access(Access::Look, path);
        let own = statat(dir, path, AtFlags::SYMLINK_NOFOLLOW);
        drop(timed);
        match own {
            Ok(own) if FileType::from_raw_mode(own.st_mode) == FileType::Symlink => {
                Some((self.stamp(folder).unwrap_or_else(|| Stamp::of_stat(&own)), true))
            }
            Ok(own) => Some((Stamp::of_stat(&own), false)),
            Err(error) if is_gone(&error.into()) => None,
            Err(_) => Some((Stamp::default(), false)),
        }
    }
}

impl Open<'_> {
    /// What it was opened as.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// What the folder itself is like. Asked for before the folder is listed, a later change shows in it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn own(&self) -> io::Result<Own> {
        Ok(Own::of(&fstat(&self.dir)?))
    }

    /// What the file system tells of the folder and all below it, in extended attributes of these names. The first of them
    /// holds the time in seconds, maybe with a fraction; without it nothing is told.
    pub fn tree(&self, attributes: &[String]) -> Option<Tree> {
        let mut told = Vec::new();
        let mut changed = None;
        for name in attributes {
            let mut room = [0; ATTRIBUTE];
            let timed = self.root.volume.access(Access::Attribute, self.folder.as_path());
            let value = match fgetxattr(&self.dir, name.as_str(), &mut room[..]) {
                Ok(length) => &room[..length],
                Err(_) => &[],
            };
            drop(timed);
            if changed.is_none() {
                changed = Some(seconds(value)?);
            }
            told.extend_from_slice(value);
            told.push(0);
        }
        Some(Tree { changed: changed?, told })
    }

    /// Lists it. A watch that was set on it before misses nothing.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn list(&self) -> io::Result<Listing> {
        let volume = self.root.volume;
        let mut listing = Listing { empty: true, ..Listing::default() };
        #[cfg(target_os = "linux")]
        let mut room = [const { std::mem::MaybeUninit::uninit() }; BUFFER];
        #[cfg(target_os = "linux")]
        let mut entries = rustix::fs::RawDir::new(&self.dir, &mut room);
        #[cfg(not(target_os = "linux"))]
        let mut entries = {
            let _timed = volume.access(Access::List, self.folder.as_path());
            rustix::fs::Dir::read_from(&self.dir)?
        };
        loop {
            #[cfg(target_os = "linux")]
            let timed = entries.is_buffer_empty().then(|| volume.access(Access::List, self.folder.as_path()));
            let Some(entry) = entries.next() else { return Ok(listing) };
            #[cfg(target_os = "linux")]
            drop(timed);
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            listing.empty = false;
            let Ok(name) = entry.file_name().to_str() else {
                listing.unreadable_names += 1;
                continue;
            };
            if name == volume.origin.metadata_file {
                let found = self.root.listed_stamp_at(self.dir(), name, self.folder);
                (listing.metadata, listing.linked) =
                    (found.map(|(stamp, _)| stamp), found.is_some_and(|(_, link)| link));
            } else if !volume.prunes(name) && self.is_folder(entry.file_name(), entry.file_type()) {
                listing.folders.push(name.to_owned());
            }
        }
    }

    /// Whether an entry is a folder; where the file system's listings do not say, it is looked at. One that may not be
    /// looked at may be a folder: opening it will tell.
    fn is_folder(&self, name: &CStr, kind: FileType) -> bool {
        match kind {
            FileType::Unknown => {
                let _timed = self.root.volume.access(Access::Look, self.folder.as_path());
                match statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
                    Err(error) => !is_gone(&error.into()),
                }
            }
            known => known == FileType::Directory,
        }
    }
}

impl Stamp {
    pub(super) fn of_stat(stat: &Stat) -> Stamp {
        let nanoseconds = |seconds, rest| i64::try_from(rest).map_or(seconds, |rest| nanoseconds(seconds, rest));
        Stamp {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            inode: stat.st_ino,
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// The whole seconds of a number as CephFS writes it: some kernels write the fraction wrongly.
fn seconds(value: &[u8]) -> Option<i64> {
    let whole = value.split(|byte| *byte == b'.').next()?;
    std::str::from_utf8(whole).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seconds_of_a_time() {
        for (text, expected) in [
            ("1700000000.090000000", Some(1_700_000_000)),
            ("17.09123", Some(17)),
            ("5", Some(5)),
            ("", None),
            ("x.1", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }
}
