//! A tar of folders, made chunk by chunk: in constant memory, whatever its size.
//!
//! Entries are named from the storage path down, sorted by name, with the files' own times and permissions and no owner.
//! The format is GNU tar's: long names and large files need it. A file that cannot be read to the length that its header
//! promised is an error and ends the archive there, without the two empty blocks that end a good one.

use bytes::Bytes;
use cap_std::fs::{File, Metadata, MetadataExt, PermissionsExt};
use shared::folder::Folder;
use shared::volume::{Root, Volume, is_gone, leads_out};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar::{Builder, EntryType, Header};
use tracing::warn;

const BLOCK: usize = 512;

/// An archive in the making.
pub(super) struct Archive {
    volume: Arc<Volume>,
    chunk: usize,
    /// Made and not yet handed out.
    ready: Vec<u8>,
    /// The file whose content comes next.
    file: Option<Content>,
    /// What is still to be archived, the next last.
    names: Vec<PathBuf>,
    /// The products that the caller may see, of those in the folders asked for; also those folders themselves. Any
    /// other folder with a metadata file is left out: it may be a product that is not known yet, or does not read, and
    /// who may see that is not known either.
    visible: BTreeSet<PathBuf>,
    /// Nothing more is to be made.
    complete: bool,
}

/// A file that an entry promised.
struct Content {
    name: PathBuf,
    file: File,
    size: u64,
    left: u64,
}

impl Archive {
    /// An archive of `folders`, in chunks of `chunk` bytes. Of the products inside them those that are `visible` go in.
    pub(super) fn new(volume: Arc<Volume>, folders: &[Folder], visible: &[Folder], chunk: usize) -> Archive {
        let path = |folder: &Folder| PathBuf::from(folder.as_path());
        let names = folders.iter().rev().map(path).collect();
        let visible = folders.iter().chain(visible).map(path).collect();
        Archive { volume, chunk, ready: Vec::new(), file: None, names, visible, complete: false }
    }

    /// The next chunk; `None` after the last. May wait for the disk.
    ///
    /// # Errors
    /// What could not be read, with its name. The archive is no good then and must not look as if it were.
    pub(super) fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        // A header with a long name may go beyond the chunk by a few blocks.
        self.ready.reserve(self.chunk + 4 * BLOCK);
        while !self.complete && self.ready.len() < self.chunk {
            self.step()?;
        }
        let rest = self.ready.split_off(self.chunk.min(self.ready.len()));
        let chunk = std::mem::replace(&mut self.ready, rest);
        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }

    /// Makes a little more.
    fn step(&mut self) -> io::Result<()> {
        if let Some(content) = self.file.take() {
            let name = content.name.clone();
            return self.content(content).map_err(|error| named(&name, &error));
        }
        let Some(name) = self.names.pop() else {
            // Two empty blocks end a tar.
            self.ready.resize(self.ready.len() + 2 * BLOCK, 0);
            self.complete = true;
            return Ok(());
        };
        let volume = self.volume.clone();
        volume.open().and_then(|root| self.entry(&root, &name)).map_err(|error| named(&name, &error))
    }

    /// Reads on in a file as far as the chunk has room.
    fn content(&mut self, mut content: Content) -> io::Result<()> {
        let want = content.left.min((self.chunk - self.ready.len()) as u64);
        let read = content.file.by_ref().take(want).read_to_end(&mut self.ready)? as u64;
        content.left -= read;
        if read < want {
            let error = format!("it ended {} bytes short of its {}", content.left, content.size);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        if content.left > 0 {
            self.file = Some(content);
        } else {
            let last_block = usize::try_from(content.size % BLOCK as u64).unwrap_or(0);
            self.ready.resize(self.ready.len() + (BLOCK - last_block) % BLOCK, 0);
        }
        Ok(())
    }

    /// Begins an entry: its header, and then a folder's names or a file's content.
    fn entry(&mut self, root: &Root<'_>, name: &Path) -> io::Result<()> {
        let metadata = root.dir().symlink_metadata(name)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            let below = sorted(root, name)?;
            if self.is_hidden(name, &below) {
                self.names.extend(self.visible_in(name).into_iter().rev());
                return Ok(());
            }
            if name != Path::new(".") {
                let header = header(EntryType::Directory, &metadata, 0);
                self.ready.extend(entry_bytes(header, name, None)?);
            }
            self.names.extend(below);
        } else if kind.is_file() {
            let file = root.open_file(name)?;
            let metadata = file.metadata()?;
            let size = metadata.len();
            self.ready.extend(entry_bytes(header(EntryType::Regular, &metadata, size), name, None)?);
            self.file = Some(Content { name: name.to_owned(), file, size, left: size });
        } else if kind.is_symlink() {
            self.link(root, name, &metadata)?;
        } else {
            warn!("{} is neither file nor folder nor link and is left out of a download", name.display());
        }
        Ok(())
    }

    /// Whether a folder that holds these names is a product that the caller may not see, or may be one.
    fn is_hidden(&self, folder: &Path, names: &[PathBuf]) -> bool {
        let is_walked = |folder: Folder| !self.volume.prunes_any(&folder);
        !self.visible.contains(folder)
            && names.contains(&folder.join(&self.volume.origin().metadata_file))
            && folder.to_str().and_then(|folder| folder.parse().ok()).is_some_and(is_walked)
    }

    /// The outermost visible products in a folder.
    fn visible_in(&self, folder: &Path) -> Vec<PathBuf> {
        let mut outermost: Vec<PathBuf> = Vec::new();
        for inner in self.visible.range(folder.to_owned()..).take_while(|inner| inner.starts_with(folder)) {
            if !outermost.last().is_some_and(|outer| inner.starts_with(outer)) {
                outermost.push(inner.clone());
            }
        }
        outermost
    }

    /// A link is archived as one, unless it leads nowhere or out of the storage path.
    fn link(&mut self, root: &Root<'_>, name: &Path, metadata: &Metadata) -> io::Result<()> {
        match root.dir().metadata(name) {
            Ok(_) => {
                let target = root.dir().read_link(name)?;
                self.ready.extend(entry_bytes(header(EntryType::Symlink, metadata, 0), name, Some(&target))?);
                Ok(())
            }
            Err(error) if leads_out(&error) || is_gone(&error) => {
                warn!("{} is a link that leads nowhere on the volume and is left out of a download", name.display());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn named(name: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", name.display()))
}

/// What is in a folder, the first by name last.
fn sorted(root: &Root<'_>, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names: Vec<OsString> =
        root.dir().read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    let whole = |name| if folder == Path::new(".") { PathBuf::from(name) } else { folder.join(name) };
    Ok(names.into_iter().map(whole).collect())
}

fn header(kind: EntryType, metadata: &Metadata, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(metadata.permissions().mode() & 0o7777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// An entry's header, with the entries before it that long names need.
fn entry_bytes(mut header: Header, name: &Path, target: Option<&Path>) -> io::Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    match target {
        Some(target) => builder.append_link(&mut header, name, target)?,
        None => builder.append_data(&mut header, name, io::empty())?,
    }
    Ok(std::mem::take(builder.get_mut()))
}
