//! A file's content, read as that of one version of it: whatever changes meanwhile is noticed before the last byte of it is
//! given away.

use super::listing::version;
use super::version::Version;
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::{Errno, pread};
use shared::clock;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How often it is waited for a file that changes again meanwhile.
const SETTLING: usize = 5;

/// What kind of thing happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Changed,
    Vanished,
    Unreadable,
}

/// What happened, without the file's name.
#[derive(Debug)]
pub(crate) struct Trouble {
    why: Why,
    text: String,
}

/// Why a download cannot be finished. Its text is for the log.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) why: Why,
    /// From the storage path down.
    pub(crate) path: PathBuf,
    text: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.text)
    }
}

impl Trouble {
    /// With the name of the file that it happened to.
    pub(crate) fn of(self, path: &Path) -> Broken {
        Broken { why: self.why, path: path.to_owned(), text: self.text }
    }

    pub(super) fn errno(error: Errno) -> Trouble {
        let why = match error {
            // A link, or no folder, stands where a file or a folder was.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE => Why::Vanished,
            _ => Why::Unreadable,
        };
        Trouble { why, text: std::io::Error::from(error).to_string() }
    }

    /// What kind of thing it is.
    pub(crate) fn why(&self) -> Why {
        self.why
    }

    pub(crate) fn io(error: &std::io::Error) -> Trouble {
        let why = if shared::volume::is_gone(error) { Why::Vanished } else { Why::Unreadable };
        Trouble { why, text: error.to_string() }
    }

    fn changed(text: String) -> Trouble {
        Trouble { why: Why::Changed, text }
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Content {
    file: OwnedFd,
    version: Version,
}

impl Content {
    /// Opens a regular file in a folder by its own name. A link is not followed, and a FIFO not waited for. Answers once
    /// the version is settled, which takes a moment where the file was just written: what is read after that is this
    /// version's content, or it shows.
    pub(crate) fn open(folder: impl AsFd, name: &OsStr) -> Result<Content, Trouble> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = openat(folder, name, flags, Mode::empty()).map_err(Trouble::errno)?;
        let stat = fstat(&file).map_err(Trouble::errno)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Trouble { why: Why::Vanished, text: "it is no regular file".to_owned() });
        }
        let mut content = Content { file, version: version(&stat) };
        for _ in 0..SETTLING {
            let now = clock::now().timestamp_nanos_opt().unwrap_or(i64::MAX);
            let Some(wait) = content.version.unsettled(now) else { return Ok(content) };
            std::thread::sleep(wait);
            let found = version(&fstat(&content.file).map_err(Trouble::errno)?);
            if found == content.version {
                return Ok(content);
            }
            content.version = found;
        }
        Err(Trouble::changed("it is written to all the time".to_owned()))
    }

    /// What was opened.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Checks that what was opened is what was planned.
    pub(super) fn checked(self, planned: Version) -> Result<Content, Trouble> {
        if self.version == planned { Ok(self) } else { Err(difference(planned, self.version)) }
    }

    /// Reads `want` bytes from `at` on, all of which the file has, to the end of `into`.
    pub(super) fn read(&self, mut at: u64, want: usize, into: &mut Vec<u8>) -> Result<(), Trouble> {
        let end = into.len() + want;
        into.reserve_exact(want);
        while into.len() < end {
            // What is spare may be more than is wanted; the excess is cut off.
            match pread(&self.file, spare_capacity(into), at) {
                Ok(0) => return Err(Trouble::changed(format!("it ends at {at} of its {} bytes", self.version.size))),
                Ok(read) => at += read as u64,
                Err(Errno::INTR) => {}
                Err(error) => return Err(Trouble::errno(error)),
            }
        }
        into.truncate(end);
        Ok(())
    }

    /// Looks whether the file is still as it was when it was opened.
    pub(super) fn recheck(&self) -> Result<(), Trouble> {
        let found = version(&fstat(&self.file).map_err(Trouble::errno)?);
        if found == self.version { Ok(()) } else { Err(difference(self.version, found)) }
    }
}

fn difference(planned: Version, found: Version) -> Trouble {
    Trouble::changed(if planned.size != found.size {
        format!("it has {} bytes now, and had {}", found.size, planned.size)
    } else if planned.inode != found.inode {
        "another file has taken its place".to_owned()
    } else {
        "it was written to".to_owned()
    })
}
