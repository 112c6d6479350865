//! A download as far as it has come: the archive's bytes in a file, and beside it which archive they are of, so that it goes on
//! where it was, even after this program was killed.

use super::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
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
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
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
        let origin = fs::read(&beside).ok().and_then(|bytes| serde_json::from_slice::<Origin>(&bytes).ok());
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
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &self.beside));
        written.map_err(|error| self.failed(&error))?;
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
