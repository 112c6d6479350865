//! Which volume it is: a UUID in a file at the storage path, so that an index and a volume find each other again whatever
//! the path and the mount are.

use crate::folder::Folder;
use crate::volume::{ReadError, Root, Volume, Within};
use sha2::{Digest, Sha256};
use std::io::{self, ErrorKind, Read, Write};
use uuid::Uuid;

/// What the rows of a volume are keyed by in a database that several share: `dpd_` and twelve hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumePrefix(String);

impl VolumePrefix {
    /// That of a volume with an identity: its UUID's first twelve hex digits.
    pub fn of(id: Uuid) -> VolumePrefix {
        VolumePrefix(format!("dpd_{}", &id.simple().to_string()[..12]))
    }

    /// That of a volume which cannot hold an identity: made from its name.
    pub fn of_name(name: &str) -> VolumePrefix {
        let hash = Sha256::digest(name);
        VolumePrefix::of(Uuid::from_slice(&hash[..16]).unwrap_or_default())
    }

    /// One that a database holds.
    pub fn stored(text: String) -> VolumePrefix {
        VolumePrefix(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::ops::Deref for VolumePrefix {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for VolumePrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a volume's identity; `None` where it has none.
///
/// # Errors
/// Those of the file system, and where the file holds anything but a UUID.
pub fn read(volume: &Volume) -> io::Result<Option<Uuid>> {
    read_in(&volume.open()?, volume.id_file())
}

pub(crate) fn read_in(root: &Root<'_>, name: &str) -> io::Result<Option<Uuid>> {
    let mut text = String::new();
    match root.open_own(&Folder::root(), name, Within::Nothing) {
        Err(ReadError::Missing) => return Ok(None),
        Err(ReadError::Io(error)) => return Err(error),
        Err(ReadError::Foreign) => return Err(io::Error::other(format!("{name} is a link to somebody else's file"))),
        Err(error) => return Err(io::Error::other(format!("{name}: {error}"))),
        Ok(file) => file.take(1024).read_to_string(&mut text)?,
    };
    text.trim().parse().map(Some).map_err(|_| {
        let shown: String = text.trim().chars().take(50).collect();
        io::Error::other(format!("{name} holds '{shown}', which is no UUID: put the volume's right one there"))
    })
}

/// Reads a volume's identity, and gives it one where it has none. Of several that do so at once all come back with the
/// same.
///
/// # Errors
/// As [`read`]; with [`ErrorKind::ReadOnlyFilesystem`] or [`ErrorKind::PermissionDenied`] where none can be given.
pub fn read_or_create(volume: &Volume) -> io::Result<Uuid> {
    if let Some(id) = read(volume)? {
        return Ok(id);
    }
    let root = volume.open()?;
    let name = volume.id_file();
    let id = Uuid::new_v4();
    // Written beside and linked into place: nobody sees half of it, and only one link can be made.
    let draft = format!("{name}.{id}");
    let mut file = root.dir().create(&draft)?;
    let linked = writeln!(file, "{id}")
        .and_then(|()| file.sync_all())
        .and_then(|()| root.dir().hard_link(&draft, root.dir(), name));
    root.dir().remove_file(&draft)?;
    match linked {
        Ok(()) => Ok(id),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read(volume)?.ok_or_else(|| io::Error::other(format!("{name} went as soon as it was made")))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use std::collections::BTreeSet;

    fn volume(path: &std::path::Path) -> Volume {
        let settings = Settings::read(&[].into(), Some(path.display().to_string())).expect("settings");
        Volume::new(&settings.volume)
    }

    #[test]
    fn prefixes_are_twelve_digits() {
        let id = "d4c137fb-d432-4000-8000-000000000000".parse().expect("a UUID");
        assert_eq!(VolumePrefix::of(id).as_str(), "dpd_d4c137fbd432");
        assert_eq!(VolumePrefix::of_name("shared").as_str().len(), 16);
        assert_ne!(VolumePrefix::of_name("shared"), VolumePrefix::of_name("other"));
    }

    #[test]
    fn all_who_race_for_an_identity_get_the_same() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let volume = volume(folder.path());
            let ids: BTreeSet<Uuid> = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..8).map(|_| scope.spawn(|| read_or_create(&volume))).collect();
                racers.into_iter().map(|racer| racer.join().expect("no panic").expect("an identity")).collect()
            });
            assert_eq!(ids.len(), 1);
            assert_eq!(std::fs::read_dir(folder.path()).expect("a listing").count(), 1, "a draft is left");
            assert_eq!(read(&volume).expect("an identity"), ids.first().copied());
        }
    }

    #[test]
    fn a_broken_identity_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(".dpd-volume-id"), "garbage").expect("a file");
        let error = read_or_create(&volume(folder.path())).expect_err("no UUID").to_string();
        assert!(error.contains(".dpd-volume-id") && error.contains("garbage"), "{error}");
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join(".dpd-volume-id");
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().expect("mkfifo").success());
        assert!(read(&volume(folder.path())).is_err());
    }
}
