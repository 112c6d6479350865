//! Who tells of changes: the kernel itself on Linux ([`inotify`]), and the `notify` library elsewhere, and where it is asked
//! for ([`portable`]). Both tell the same in the same words.

#[cfg(target_os = "linux")]
use super::inotify;
use super::portable;
use shared::folder::Folder;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// What is told.
#[derive(Debug)]
pub(super) enum Told<'a> {
    /// Something happened to a name in a watched folder.
    Name { place: Place, name: &'a str, happened: Happened },
    /// A watched folder itself was removed or moved.
    Itself(i32),
    /// This watch has ended.
    Ended(i32),
    /// Something was not told, and why.
    Lost(&'a str),
}

/// Where something happened.
#[derive(Debug)]
pub(super) enum Place {
    /// In the folder of this watch, whatever it is called by now.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "inotify alone tells by watch"))]
    Watch(i32),
    /// In the folder of this name.
    Folder(Folder),
}

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    /// It is there, or is not any more; a folder, or possibly one.
    Folder,
    /// The file of this name was finished, replaced or removed.
    File,
    /// The file of this name is being written, or its attributes changed.
    Writing,
}

/// Watches on folders. They end when this is dropped.
#[derive(Debug)]
pub(super) enum Watches {
    #[cfg(target_os = "linux")]
    Kernel(inotify::Watches),
    Library(portable::Watches),
}

impl Watches {
    /// Begins to tell of what happens below `root`, as far as it is watched.
    pub(super) fn start(
        by_library: bool,
        root: &Path,
        told: impl FnMut(Told<'_>) + Send + 'static,
    ) -> io::Result<Watches> {
        #[cfg(target_os = "linux")]
        if !by_library {
            return inotify::Watches::start(told).map(Watches::Kernel);
        }
        let _ = by_library;
        portable::Watches::start(root, told).map(Watches::Library)
    }

    /// Watches an open folder, and comes back with the number of the watch: the same for the same folder.
    ///
    /// # Errors
    /// Those of the system; [`io::ErrorKind::StorageFull`] where it takes no more watches.
    pub(super) fn add(&self, dir: BorrowedFd<'_>, path: &Path) -> io::Result<i32> {
        match self {
            #[cfg(target_os = "linux")]
            Watches::Kernel(watches) => Ok(watches.add(dir, path)?),
            Watches::Library(watches) => {
                let _ = dir;
                watches.add(path)
            }
        }
    }

    /// Ends a watch. True where its end will be told.
    pub(super) fn remove(&self, number: i32) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Watches::Kernel(watches) => {
                watches.remove(number);
                true
            }
            Watches::Library(watches) => {
                watches.remove(number);
                false
            }
        }
    }
}
