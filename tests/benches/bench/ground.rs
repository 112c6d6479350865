//! Where the volume is: in a folder that goes at the end, or in one that is kept and used again when it is the same volume.

use crate::generate;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

/// Another number for each change of what [`generate`] makes.
const SHAPE: u32 = 2;

/// A generated volume.
pub(crate) struct Ground {
    folder: PathBuf,
    kept: bool,
}

impl Ground {
    /// A volume of this many products, in `place` if it is to be kept.
    pub(crate) fn new(scale: usize, place: Option<&Path>) -> Ground {
        let ground = match place {
            Some(place) => Ground { folder: place.to_owned(), kept: true },
            None => Ground { folder: tempfile::tempdir().expect("a folder").keep(), kept: false },
        };
        let (marker, made) = (ground.folder.join("made"), format!("{scale} {} {SHAPE}", generate::SEED));
        if fs::read_to_string(&marker).is_ok_and(|text| text == made) {
            println!("the volume is in {} already", ground.folder.display());
            return ground;
        }
        ground.clear();
        println!("making {scale} products in {}", ground.folder.display());
        let begun = Instant::now();
        fs::create_dir_all(ground.path()).expect("a folder");
        generate::make(&ground.path(), scale);
        fs::write(marker, made).expect("the marker");
        println!("made in {:.1} s", begun.elapsed().as_secs_f64());
        ground
    }

    /// The storage path.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("volume")
    }

    /// Where folders are made that are then moved to the storage path: the indexer does not look there.
    pub(crate) fn staging(&self) -> PathBuf {
        self.folder.join("staging")
    }

    /// Removes what arrived during a measurement, so that the next one finds the volume as it was made.
    pub(crate) fn forget(&self, arrived: &[String]) {
        for block in arrived {
            let _ = fs::remove_dir_all(self.path().join(block));
        }
        let _ = fs::remove_dir_all(self.staging());
    }

    fn clear(&self) {
        let _ = fs::remove_file(self.folder.join("made"));
        let folders: Vec<PathBuf> =
            fs::read_dir(self.path()).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        // It is millions of files, and one thread waits for the disk half of the time.
        thread::scope(|scope| {
            for part in folders.chunks(folders.len().div_ceil(2).max(1)) {
                scope.spawn(move || part.iter().for_each(|folder| drop(fs::remove_dir_all(folder))));
            }
        });
        let _ = fs::remove_dir_all(self.path());
        let _ = fs::remove_dir_all(self.staging());
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !self.kept {
            self.clear();
            let _ = fs::remove_dir(&self.folder);
        }
    }
}
