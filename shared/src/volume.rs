//! The volume: folders listed and metadata files read, beneath the storage path and never outside it.
//!
//! Every access goes through a [`Root`], a handle on the storage path; the operating system resolves each name beneath
//! that handle, so that no link and no race leads out. A `Root` is opened anew for each piece of work, or many times a
//! second, since a handle would hold on to a folder that was unmounted or replaced meanwhile.

mod calls;
mod list;
mod own;

pub use list::{Listing, Open, Own, Tree};
pub(crate) use own::Within;

use crate::config::VolumeSettings;
use crate::folder::Folder;
use crate::identity;
use crate::metrics::Timed;
use crate::product::{BadMetadata, Origin, Product};
use crate::yaml;
use calls::Calls;
use cap_fs_ext::DirExt;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt};
use globset::GlobSet;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// The longest path that one call takes, in bytes: Linux's PATH_MAX, less the NUL at its end.
const LONGEST_PATH: usize = 4095;

/// A volume as it is configured.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
    origin: Origin,
    prune: GlobSet,
    id_file: String,
    seam: Seam,
    calls: Calls,
}

/// What is called before each access to the file system, with the path below the storage path that it is about.
pub type OnAccess = Arc<dyn Fn(Access, &str) + Send + Sync>;

/// A call of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Access {
    Open,
    List,
    Look,
    Read,
    Attribute,
}

/// Where accesses can be held up.
#[derive(Default)]
struct Seam(Option<OnAccess>);

impl std::fmt::Debug for Seam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Seam(used)" } else { "Seam" })
    }
}

/// What tells one version of a metadata file from another without reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Which file it is.
    pub inode: u64,
    /// Last modification, in nanoseconds since 1970.
    pub modified: i64,
    /// Last change of content, name or permissions, in nanoseconds since 1970.
    pub changed: i64,
}

/// Which folder the storage path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// The volume's own identity, where it has one.
    pub id: Option<Uuid>,
}

/// SHA-256 of a metadata file.
pub type Digest = [u8; 32];

/// A metadata file, read.
#[derive(Debug)]
pub struct Found {
    /// The product that it makes.
    pub product: Arc<Product>,
    /// The version that was read.
    pub stamp: Stamp,
    /// What its bytes are.
    pub digest: Digest,
}

/// Why a metadata file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("there is no metadata file")]
    Missing,
    /// It leads out of the storage path.
    #[error("it is a link that leads out of the storage path")]
    Outside,
    /// It leads to what its owner might not read himself.
    #[error("it is a link that leads out of its product, to somebody else's file")]
    Foreign,
    /// The file system says no.
    #[error("it cannot be read: {0}")]
    Io(#[source] io::Error),
    /// It was read and makes no product.
    #[error("{error}")]
    Bad {
        /// Why.
        error: BadMetadata,
        /// The version that was read.
        stamp: Stamp,
        /// Whether it may speak of an access group: nobody knows who may see what is in it.
        guarded: bool,
    },
}

impl ReadError {
    fn of(error: io::Error) -> ReadError {
        match error.kind() {
            _ if is_gone(&error) => ReadError::Missing,
            _ if leads_out(&error) => ReadError::Outside,
            _ => ReadError::Io(error),
        }
    }
}

/// Whether an error says that there is no such file or folder (any more).
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Whether an access was refused because the name leads out of the storage path (and not by permissions, which come
/// with a code of the operating system).
pub fn leads_out(error: &io::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

/// Parts a path that is too long for one call: the folders to be opened one beneath the other, the first from where the
/// path begins, and what is left. A name never has to be parted.
pub fn parted(path: &Path) -> (Vec<&Path>, &Path) {
    let (mut folders, mut rest) = (Vec::new(), path.as_os_str().as_bytes());
    while rest.len() > LONGEST_PATH
        && let Some(slash) = rest[..=LONGEST_PATH].iter().rposition(|byte| *byte == b'/')
    {
        folders.push(Path::new(OsStr::from_bytes(&rest[..slash])));
        rest = &rest[slash + 1..];
    }
    (folders, Path::new(OsStr::from_bytes(rest)))
}

impl Volume {
    /// The volume that is configured.
    pub fn new(settings: &VolumeSettings) -> Volume {
        let VolumeSettings { path, origin, prune, id_file } = settings.clone();
        Volume { path: path.into(), origin, prune, id_file, seam: Seam::default(), calls: Calls::default() }
    }

    /// The same volume behind something that is called before each access to the file system by those who index, and may
    /// hold it up: a far-away volume for tests and benchmarks.
    pub fn behind(self, on_access: OnAccess) -> Volume {
        Volume { seam: Seam(Some(on_access)), ..self }
    }

    /// Begins a call of those who index, which ends when what this returns is dropped.
    fn access(&self, access: Access, path: &str) -> Timed {
        let timed = self.begin(access);
        if let Some(on_access) = &self.seam.0 {
            on_access(access, path);
        }
        timed
    }

    /// Begins a call that is timed until what this returns is dropped.
    pub fn begin(&self, access: Access) -> Timed {
        self.calls.begin(access)
    }

    /// The storage path as configured.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What uids and rows say of the volume.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The name of the file at the storage path that holds the volume's identity.
    pub fn id_file(&self) -> &str {
        &self.id_file
    }

    /// Whether a folder of this name is not walked into.
    pub fn prunes(&self, name: &str) -> bool {
        self.prune.is_match(name)
    }

    /// Whether a folder lies in one that is not walked into, or is one.
    pub fn prunes_any(&self, folder: &Folder) -> bool {
        folder.names().any(|name| self.prunes(name))
    }

    /// Opens the storage path; it may itself be a link.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(&self) -> io::Result<Root<'_>> {
        let _timed = self.access(Access::Open, ".");
        let opened = Dir::open_ambient_dir(&self.path, ambient_authority());
        self.calls.note(opened.is_ok());
        Ok(Root { dir: opened?, volume: self })
    }
}

/// The storage path, open.
#[derive(Debug)]
pub struct Root<'a> {
    dir: Dir,
    volume: &'a Volume,
}

impl Root<'_> {
    /// Which folder this is, and which volume.
    ///
    /// # Errors
    /// Those of the file system. An identity that cannot be read is none.
    pub fn identity(&self) -> io::Result<Identity> {
        let metadata = self.dir.dir_metadata()?;
        let id = identity::read_in(self, &self.volume.id_file).ok().flatten();
        Ok(Identity { device: metadata.dev(), inode: metadata.ino(), id })
    }

    /// The handle that names are resolved beneath.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Calls with a handle and a path beneath it that one call takes: with the storage path's, or, where the path is too
    /// long for that, with that of a folder on the way.
    ///
    /// # Errors
    /// Those of the file system, and of the call.
    pub fn reach<T>(&self, path: &Path, call: impl FnOnce(&Dir, &Path) -> io::Result<T>) -> io::Result<T> {
        let (folders, rest) = parted(path);
        let mut reached = None;
        for folder in folders {
            let open = open_beneath(reached.as_ref().unwrap_or(&self.dir), folder)?;
            reached = Some(Dir::from_std_file(open.into()));
        }
        call(reached.as_ref().unwrap_or(&self.dir), rest)
    }

    /// Opens a folder. A link on the way is not followed, not even to a folder on the volume: what it leads to has a
    /// name of its own.
    ///
    /// # Errors
    /// Those of the file system; a link is no folder.
    pub fn open_folder(&self, folder: &Folder) -> io::Result<Dir> {
        self.open_listable(folder.as_path()).map(|fd| Dir::from_std_file(fd.into()))
    }

    /// Opens a folder as [`open_folder`](Self::open_folder) does, for reading what is in it. Its path may be of any bytes;
    /// `.` is the storage path.
    ///
    /// # Errors
    /// Those of the file system; a link is no folder.
    pub fn open_listable(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        let path = path.as_ref();
        let _timed = self.volume.access(Access::Open, &path.to_string_lossy());
        self.reach(path, open_beneath)
    }

    /// Reads the metadata file of a folder.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn read(&self, folder: &Folder) -> Result<Found, ReadError> {
        let name = self.volume.origin.metadata_file.as_str();
        let path = folder.join(name);
        let timed = self.volume.access(Access::Open, path.as_str());
        let mut file = self.open_own(folder, name, Within::Folder)?;
        drop(timed);
        let metadata = file.metadata().map_err(ReadError::Io)?;
        if !metadata.is_file() {
            return Err(ReadError::Io(io::Error::other("it is no regular file")));
        }
        // Taken before the bytes are read: a later write then shows as another version.
        let stamp = Stamp::of(&metadata);
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).min(yaml::MAX_BYTES) + 1);
        let timed = self.volume.access(Access::Read, path.as_str());
        file.by_ref().take(yaml::MAX_BYTES as u64).read_to_end(&mut bytes).map_err(ReadError::Io)?;
        drop(timed);
        let product = Product::from_file(&bytes, &self.volume.origin, folder).map_err(|error| ReadError::Bad {
            error,
            stamp,
            guarded: speaks_of_access(&bytes),
        })?;
        Ok(Found { product: Arc::new(product), stamp, digest: Sha256::digest(&bytes).into() })
    }

    /// The version of a folder's metadata file; `None` where there is none.
    pub fn stamp(&self, folder: &Folder) -> Option<Stamp> {
        let path = folder.join(&self.volume.origin.metadata_file);
        let _timed = self.volume.access(Access::Look, path.as_str());
        self.dir.metadata(path.as_str()).ok().map(|metadata| Stamp::of(&metadata))
    }

    /// Whether a folder's name leads out of the storage path by a link.
    pub fn leads_out(&self, folder: &Folder) -> bool {
        self.dir.metadata(folder.as_path()).is_err_and(|error| leads_out(&error))
    }
}

/// Opens a folder beneath another for reading what is in it, by a path that one call takes.
fn open_beneath(dir: &Dir, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    if let Some(opened) = open_in_one_call(dir, path, flags) {
        return opened;
    }
    let dir = path.components().try_fold(dir.try_clone()?, |dir, name| dir.open_dir_nofollow(name))?;
    Ok(openat(&dir, ".", flags, Mode::empty())?)
}

/// Opens what is beneath a folder and reached by no link; `None` where the kernel has no such call.
#[cfg(target_os = "linux")]
fn open_in_one_call(dir: &Dir, path: &Path, flags: OFlags) -> Option<io::Result<OwnedFd>> {
    use rustix::fs::{ResolveFlags, openat2};
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(dir, path, flags, Mode::empty(), beneath) {
            Ok(fd) => return Some(Ok(fd)),
            // Something was renamed meanwhile, and the kernel could not be sure.
            Err(Errno::AGAIN) => {}
            // Kernels before 5.6, and sandboxes that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return None,
            Err(error) => return Some(Err(error.into())),
        }
    }
}

/// Whether bytes that make no product may hold the name of the key that says who may see one.
fn speaks_of_access(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"access_group";
    let utf16 = |low: usize| {
        let low_bytes: Vec<u8> = bytes.iter().skip(low).step_by(2).copied().collect();
        low_bytes.windows(NAME.len()).any(|part| part == NAME)
    };
    // In quotes it may be written in many ways.
    let is_escaped = bytes.windows(2).any(|part| matches!(part, [b'\\', b'u' | b'U' | b'x' | b'\n' | b'\r']));
    is_escaped || bytes.windows(NAME.len()).any(|part| part == NAME) || bytes.contains(&0) && (utf16(0) || utf16(1))
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            size: metadata.size(),
            inode: metadata.ino(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Variables};
    use std::fs;

    fn volume(path: &std::path::Path) -> Volume {
        let settings = Settings::read(&Variables::default(), path.to_str().map(str::to_owned)).expect("settings");
        Volume::new(&settings.volume)
    }

    #[test]
    fn long_paths_are_parted_between_names() {
        for (names, length) in [(1, 255), (16, 255), (17, 255), (40, 255), (5000, 1), (4096, 1), (2048, 1), (2049, 1)] {
            let path = PathBuf::from(vec!["n".repeat(length); names].join("/"));
            let (folders, rest) = parted(&path);
            assert_eq!(folders.iter().copied().chain([rest]).collect::<PathBuf>(), path);
            for part in folders.into_iter().chain([rest]) {
                assert!(part.as_os_str().len() < 4096 && part.is_relative(), "{names} of {length}");
            }
        }
        assert_eq!(parted(Path::new("a/b")), (Vec::new(), Path::new("a/b")));
    }

    #[test]
    fn nothing_outside_is_read() {
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("ska-data-product.yaml"), "execution_block: eb-out-20240101-1").expect("a file");
        let inside = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(outside.path(), inside.path().join("linked")).expect("a link");
        fs::create_dir(inside.path().join("eb")).expect("a folder");
        let file = inside.path().join("eb/ska-data-product.yaml");
        std::os::unix::fs::symlink(outside.path().join("ska-data-product.yaml"), &file).expect("a link");

        let volume = volume(inside.path());
        let root = volume.open().expect("the root");
        assert_eq!(root.list(&Folder::root()).expect("a listing").folders, ["eb"]);
        for folder in ["linked", "eb"] {
            let read = root.read(&folder.parse().expect("a folder"));
            assert!(matches!(read, Err(ReadError::Outside | ReadError::Missing)), "{folder}: {read:?}");
        }
    }

    #[test]
    fn odd_things_under_the_metadata_files_name_are_errors() {
        let inside = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(inside.path().join("dir/ska-data-product.yaml")).expect("a folder");
        fs::create_dir(inside.path().join("fifo")).expect("a folder");
        let made = std::process::Command::new("mkfifo").arg(inside.path().join("fifo/ska-data-product.yaml")).status();
        assert!(made.expect("mkfifo").success());
        fs::create_dir(inside.path().join("dangling")).expect("a folder");
        std::os::unix::fs::symlink("nowhere", inside.path().join("dangling/ska-data-product.yaml")).expect("a link");
        let volume = volume(inside.path());
        let root = volume.open().expect("the root");
        for folder in ["dir", "fifo"] {
            let folder = folder.parse().expect("a folder");
            assert!(root.list(&folder).expect("a listing").metadata.is_some());
            assert!(matches!(root.read(&folder), Err(ReadError::Io(_))));
        }
        assert!(matches!(root.read(&"dangling".parse().expect("a folder")), Err(ReadError::Missing)));
        assert!(matches!(root.read(&"none".parse().expect("a folder")), Err(ReadError::Missing)));
    }

    #[test]
    fn a_linked_storage_path_is_a_volume() {
        let real = tempfile::tempdir().expect("a folder");
        fs::create_dir(real.path().join("eb")).expect("a folder");
        let link = real.path().join("link");
        std::os::unix::fs::symlink(real.path(), &link).expect("a link");
        assert_eq!(volume(&link).open().expect("the root").list(&Folder::root()).expect("a listing").folders, ["eb"]);
    }
}
