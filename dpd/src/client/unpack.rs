//! Unpacking an archive that nobody vouches for: nothing is written outside the folder, whatever the archive says.
//!
//! Folders are opened name by name and links are never followed; links are made last, and only those that lead nowhere
//! else. Sizes are checked as files are written.

use super::part::Part;
use super::table::printable;
use super::{Failure, Result};
use cap_fs_ext::DirExt;
use cap_std::fs::{Dir, OpenOptions, Permissions, PermissionsExt};
use indicatif::HumanBytes;
use rustix::fs::{AtFlags, Mode, Timespec, Timestamps, UTIME_OMIT, chmodat, futimens, utimensat};
use rustix::process::umask;
use shared::volume::parted;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tar::{Archive, Entry, EntryType};

/// The longest list of what was left out.
const NAMED: usize = 20;
/// How much is read at once, in bytes.
const READ: usize = 1 << 20;

/// What was unpacked.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    files: u64,
    bytes: u64,
    tops: Vec<PathBuf>,
    left_out: Vec<String>,
}

struct Unpacking<'a> {
    to: &'a Dir,
    /// What files and folders may allow.
    allowed: u32,
    done: Unpacked,
    /// The folder of the last entry, which is most often that of the next.
    folder: Option<(PathBuf, Dir)>,
    /// What is done when everything is there, the last first: a folder may forbid to write in it.
    folders: Vec<(PathBuf, u32, i64)>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// Unpacks a whole archive into a folder.
pub(crate) fn unpack(part: &mut Part, to: &Dir) -> Result<Unpacked> {
    let total = part.origin.as_ref().map_or(0, |origin| origin.total);
    let mut archive = Archive::new(BufReader::with_capacity(READ, part.read()?.take(total)));
    let mut unpacking = Unpacking {
        to,
        allowed: allowed(),
        done: Unpacked::default(),
        folder: None,
        folders: Vec::new(),
        links: Vec::new(),
    };
    let entries = archive.entries().map_err(|error| unsound(&error))?;
    for entry in entries {
        unpacking.entry(entry.map_err(|error| unsound(&error))?)?;
    }
    unpacking.finish()
}

/// What the caller's mask leaves of the permissions that an archive may give.
fn allowed() -> u32 {
    // It can be asked for only by setting it.
    let mask = umask(Mode::from_raw_mode(0o077));
    umask(mask);
    0o777 & !mask.as_raw_mode()
}

fn unsound(error: &dyn fmt::Display) -> Failure {
    Failure::Unsound(format!("the archive cannot be unpacked: {error}"))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", printable(&path.to_string_lossy())))
}

impl Unpacking<'_> {
    fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<()> {
        let path = names(&entry.path_bytes())?;
        let top = path.iter().next().map(PathBuf::from).unwrap_or_default();
        if self.done.tops.last() != Some(&top) {
            self.done.tops.push(top);
        }
        let mode = entry.header().mode().map_err(|error| unsound(&error))? & self.allowed;
        let modified = entry.header().mtime().map_err(|error| unsound(&error))?;
        // In base 256 times before 1970 are negative, of which the reader knows nothing.
        let modified = modified.cast_signed();
        match entry.header().entry_type() {
            EntryType::Directory => {
                self.folder_at(&path)?;
                self.folders.push((path, mode, modified));
                Ok(())
            }
            EntryType::Regular => self.file(&path, mode, modified, &mut entry),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                self.links.push((path, PathBuf::from(OsStr::from_bytes(&target))));
                Ok(())
            }
            _ => {
                self.leave_out(&path, "neither file nor folder nor link");
                Ok(())
            }
        }
    }

    fn file<R: Read>(&mut self, path: &Path, mode: u32, modified: i64, entry: &mut Entry<'_, R>) -> Result<()> {
        let size = entry.size();
        let (folder, name) = self.parent(path)?;
        remove(folder, name).map_err(|error| failed(path, &error))?;
        let mut file = folder
            .open_with(name, OpenOptions::new().write(true).create_new(true))
            .map_err(|error| failed(path, &error))?;
        let written = io::copy(entry, &mut file).map_err(|error| failed(path, &error))?;
        if written != size {
            let path = printable(&path.to_string_lossy());
            return Err(Failure::Unsound(format!("{path} has {written} bytes, and not {size}")));
        }
        file.set_permissions(Permissions::from_mode(mode)).map_err(|error| failed(path, &error))?;
        futimens(&file, &times(modified)).map_err(|error| failed(path, &error.into()))?;
        self.done.files += 1;
        self.done.bytes += size;
        Ok(())
    }

    /// The folder that an entry is in, and the entry's own name.
    fn parent<'a>(&mut self, path: &'a Path) -> Result<(&Dir, &'a OsStr)> {
        let name = path.file_name().ok_or_else(|| unsound(&"an entry has no name"))?;
        self.folder_at(path.parent().unwrap_or(Path::new("")))?;
        match &self.folder {
            Some((_, folder)) => Ok((folder, name)),
            None => Err(unsound(&"an entry has no folder")),
        }
    }

    /// Opens a folder, and makes what is missing of it. A link on the way is an error.
    fn folder_at(&mut self, path: &Path) -> Result<()> {
        if self.folder.as_ref().is_some_and(|(is, _)| is == path) {
            return Ok(());
        }
        let root = self.to.try_clone().map_err(|error| failed(path, &error))?;
        let folder = path.iter().try_fold(root, |folder, name| {
            match folder.create_dir(name) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            folder.open_dir_nofollow(name)
        });
        self.folder = Some((path.to_owned(), folder.map_err(|error| failed(path, &error))?));
        Ok(())
    }

    fn finish(mut self) -> Result<Unpacked> {
        for (path, target) in std::mem::take(&mut self.links) {
            if !leads_down(&path, &target) {
                self.leave_out(&path, "a link that leads out of the folder");
                continue;
            }
            let to = self.to;
            let (folder, name) = self.parent(&path)?;
            let made = remove(folder, name).and_then(|()| folder.symlink(&target, name));
            made.map_err(|error| failed(&path, &error))?;
            // It may lead out by way of another link.
            if reach(to, &path, Dir::metadata).is_err_and(|error| error.kind() != ErrorKind::NotFound) {
                let (folder, name) = self.parent(&path)?;
                remove(folder, name).map_err(|error| failed(&path, &error))?;
                self.leave_out(&path, "a link that leads out of the folder");
            }
        }
        for (path, mode, modified) in std::mem::take(&mut self.folders).iter().rev() {
            self.folder_at(path)?;
            if let Some((_, folder)) = self.folder.take() {
                // The handle is good for names in the folder only, and so for its own.
                utimensat(&folder, ".", &times(*modified), AtFlags::empty())
                    .and_then(|()| chmodat(&folder, ".", Mode::from_raw_mode(*mode), AtFlags::empty()))
                    .map_err(|error| failed(path, &error.into()))?;
            }
        }
        Ok(self.done)
    }

    fn leave_out(&mut self, path: &Path, what: &str) {
        if self.done.left_out.len() < NAMED {
            self.done.left_out.push(format!("{} is {what} and is left out", printable(&path.to_string_lossy())));
        }
    }
}

/// Calls with a folder and a path in it that one call takes: with `to`, or, where the path is too long for that, with a
/// folder on the way.
pub(crate) fn reach<'p, T>(
    to: &Dir,
    path: &'p Path,
    call: impl FnOnce(&Dir, &'p Path) -> io::Result<T>,
) -> io::Result<T> {
    let (folders, rest) = parted(path);
    let mut names = folders.into_iter().flat_map(Path::iter);
    call(&names.try_fold(to.try_clone()?, |folder, name| folder.open_dir_nofollow(name))?, rest)
}

/// Makes room for a new file. A folder that stands there stays, and is an error.
fn remove(folder: &Dir, name: &OsStr) -> io::Result<()> {
    match folder.remove_file(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The time of the last modification, in seconds since 1970.
fn times(seconds: i64) -> Timestamps {
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access, last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 } }
}

/// The path of an entry, if it leads down and nowhere else.
fn names(bytes: &[u8]) -> Result<PathBuf> {
    let trimmed = bytes.strip_suffix(b"/").unwrap_or(bytes);
    let good = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    if trimmed.split(|byte| *byte == b'/').all(good) {
        return Ok(PathBuf::from(OsStr::from_bytes(trimmed)));
    }
    let name = printable(&String::from_utf8_lossy(bytes));
    Err(Failure::Unsound(format!("the archive has an entry '{name}', which could lead out of the folder")))
}

/// Whether a link stays in the folder, by its words alone.
fn leads_down(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    for name in target.as_os_str().as_bytes().split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if depth == 0 => return false,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    !target.as_os_str().is_empty() && !target.is_absolute()
}

impl fmt::Display for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files, {}, in", self.files, HumanBytes(self.bytes))?;
        for top in self.tops.iter().take(NAMED) {
            write!(f, " {}", printable(&top.to_string_lossy()))?;
        }
        self.left_out.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}
