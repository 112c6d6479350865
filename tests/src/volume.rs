//! Volumes to run the program on.

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What a metadata file is called.
pub const METADATA: &str = "ska-data-product.yaml";

/// A volume that goes when dropped.
#[derive(Debug)]
pub struct Volume(TempDir);

impl Default for Volume {
    fn default() -> Self {
        Volume(TempDir::new().expect("a folder"))
    }
}

impl Volume {
    /// An empty one.
    pub fn new() -> Volume {
        Volume::default()
    }

    /// An empty one that is no disk's work, where there is a file system in memory: for many files.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn in_memory() -> Volume {
        Volume(TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a folder"))
    }

    /// The storage path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path on it.
    pub fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Writes a file and the folders that it needs.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        fs::write(path, content).expect("the file");
    }

    /// Writes a product's metadata: its execution block, and lines of YAML beside that.
    pub fn product(&self, folder: &str, execution_block: &str, more: &str) {
        self.write(&format!("{folder}/{METADATA}"), format!("execution_block: {execution_block}\n{more}\n"));
    }
}

/// The sample volume that the project ships.
pub fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/volume")
}
