//! A download as far as it has come: the archive's bytes in a file, and beside it which archive they are of, so that it goes on
//! where it was, even after this program was killed.

use super::{Failure, Result};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Which archive a part is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Strong, with its quotes; without one nothing can be resumed.
    pub(crate) etag: Option<String>,
    /// How many bytes it has.
    pub(crate) total: u64,
}

/// The part that is there.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    /// How many bytes there are.
    pub(crate) length: u64,
    pub(crate) origin: Option<Origin>,
    path: PathBuf,
    beside: PathBuf,
    tar: PathBuf,
}

impl Part {
    /// Opens the part of a download in a folder, or begins one. No other process has it meanwhile.
    pub(crate) fn open(folder: &Path, product: &str) -> Result<Part> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let stem: String = product.chars().map(plain).take(200).collect();
        let stem = stem.trim_start_matches('.');
        let [path, beside, tar] = ["tar.part", "tar.part.json", "tar"].map(|end| folder.join(format!("{stem}.{end}")));
        let failed = |error: io::Error| Failure::Failed(format!("{}: {error}", path.display()));
        let file = begun(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("{} is being downloaded by another dpd already", path.display());
                return Err(Failure::Failed(text));
            }
            // There are file systems that have no locks.
            Err(TryLockError::Error(_)) => {}
        }
        let length = file.metadata().map_err(failed)?.len();
        let origin = match own(&beside) {
            Ok(file) => origin(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::Failed(format!("{}: {error}", beside.display()))),
        };
        let mut part = Part { file, length, origin, path, beside, tar };
        match &part.origin {
            Some(Origin { etag: Some(_), total }) if length <= *total => {}
            _ => part.cut(0)?,
        }
        part.file.seek(SeekFrom::End(0)).map_err(|error| part.failed(&error))?;
        Ok(part)
    }

    /// Begins anew, as a part of this archive.
    pub(crate) fn restart(&mut self, origin: Origin) -> Result<()> {
        self.cut(0)?;
        let text = serde_json::to_vec(&origin).map_err(|error| self.failed(&error.into()))?;
        let new = self.beside.with_extension("new");
        let written = begun(&new).and_then(|mut file| {
            file.set_len(0)?;
            file.write_all(&text)?;
            fs::rename(&new, &self.beside)
        });
        written.map_err(|error| Failure::Failed(format!("{}: {error}", new.display())))?;
        self.origin = Some(origin);
        Ok(())
    }

    /// Adds bytes at the end.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| self.failed(&error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.total == self.length)
    }

    /// The archive from its beginning.
    pub(crate) fn read(&mut self) -> Result<&File> {
        self.file.rewind().map_err(|error| self.failed(&error))?;
        Ok(&self.file)
    }

    /// Ends it: the archive is removed, or kept, and then its path is answered.
    pub(crate) fn finish(self, keep: bool) -> Result<Option<PathBuf>> {
        let _ = fs::remove_file(&self.beside);
        let ended = if keep { fs::rename(&self.path, &self.tar) } else { fs::remove_file(&self.path) };
        ended.map_err(|error| self.failed(&error))?;
        Ok(keep.then_some(self.tar))
    }

    fn cut(&mut self, length: u64) -> Result<()> {
        let cut = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length)));
        self.length = cut.map_err(|error| self.failed(&error))?;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::Failed(format!("{}: {error}", self.path.display()))
    }
}

/// The longest text that says which archive a part is of, in bytes.
const LONGEST: u64 = 64 << 10;

fn origin(file: File) -> Option<Origin> {
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Makes a file, or opens the one that is there as [`own`] does.
fn begun(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match open(path, flags, Mode::from_raw_mode(0o666)) {
        Ok(file) => Ok(file.into()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => own(path),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file of the caller's own. What others can put into a folder (a link, a second name of a file, a pipe) is an error,
/// and nothing happens to it.
fn own(path: &Path) -> io::Result<File> {
    let foreign =
        || io::Error::other("it is there, and is no plain file of yours alone; move it away, or give --output");
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::ISDIR | rustix::io::Errno::NXIO) => return Err(foreign()),
        Err(error) => return Err(error.into()),
    };
    let is = file.metadata()?;
    let is_own = is.is_file() && is.nlink() == 1 && is.uid() == geteuid().as_raw();
    if is_own { Ok(file) } else { Err(foreign()) }
}
