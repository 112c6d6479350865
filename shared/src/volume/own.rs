//! Files in a folder of the volume that are read for what they say, opened so that a link among them shows nobody what he could
//! not read himself.

use super::{ReadError, Root, leads_out};
use crate::folder::Folder;
use cap_std::fs::{Dir, File, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use std::io;

/// Where a link may lead, whosesoever the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// To what is in its folder or below: that is handed out with it in any case.
    Folder,
    /// Nowhere.
    Nothing,
}

impl Root<'_> {
    /// Opens a file of a folder for reading, without waiting for anything. A link is followed as far as `within` says, and
    /// beneath the storage path to files of the link's own owner: whoever made it could read these himself.
    ///
    /// # Errors
    /// As [`ReadError`] says, but that nothing is read yet.
    pub(crate) fn open_own(&self, folder: &Folder, name: &str, within: Within) -> Result<File, ReadError> {
        // The folder may not be reached by a link.
        let dir = self.open_folder(folder).map_err(ReadError::of)?;
        // Opening a FIFO must not wait for its writer.
        let flags = OFlags::NONBLOCK;
        let no_link = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&dir, name, no_link, Mode::empty()) {
            Ok(file) => return Ok(File::from_std(file.into())),
            Err(Errno::LOOP) => {}
            Err(error) => return Err(ReadError::of(error.into())),
        }
        let follow = |dir: &Dir, path: &str| {
            dir.open_with(path, OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()))
        };
        if within == Within::Folder {
            match follow(&dir, name) {
                Err(error) if leads_out(&error) => {}
                opened => return opened.map_err(ReadError::of),
            }
        }
        let owner = |dir: &Dir| -> io::Result<u32> { Ok(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_uid) };
        let owner = owner(&dir).map_err(ReadError::of)?;
        let file = follow(&self.dir, folder.join(name).as_str()).map_err(ReadError::of)?;
        // Asked of what was opened: what the name leads to may be another file by now.
        let same = file.metadata().map_err(ReadError::Io)?.uid() == owner;
        if same { Ok(file) } else { Err(ReadError::Foreign) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Variables};
    use crate::identity;
    use crate::volume::Volume;
    use rustix::process::geteuid;
    use std::fs;
    use std::os::unix::fs::{chown, lchown, symlink};

    const METADATA: &str = "ska-data-product.yaml";

    /// A volume with files of two owners, where we may give files away.
    fn volume() -> Option<(tempfile::TempDir, Volume)> {
        if !geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let at = |path: &str| dir.path().join(path);
        for (path, owner) in [("private/job.yaml", 1000), ("theirs/own.yaml", 2000), ("mine/sub/own.yaml", 1000)] {
            fs::create_dir_all(at(path).parent().expect("a folder")).expect("a folder");
            fs::write(at(path), "execution_block: eb-a-20240101-1\nword: secretword").expect("a file");
            chown(at(path), Some(owner), None).expect("an owner");
        }
        symlink("../private", at("mine/out")).expect("a link");
        symlink("../../private/job.yaml", at("mine/sub/link")).expect("a link");
        let settings = Settings::read(&Variables::default(), dir.path().to_str().map(str::to_owned)).expect("settings");
        let volume = Volume::new(&settings.volume);
        Some((dir, volume))
    }

    #[test]
    fn links_lead_to_what_is_in_the_folder_or_of_their_owner() {
        let Some((dir, volume)) = volume() else { return };
        let link = dir.path().join("mine").join(METADATA);
        for (to, owner, expected) in [
            ("sub/own.yaml", 2000, "good"),
            ("../mine/sub/own.yaml", 2000, "foreign"),
            ("../private/job.yaml", 2000, "foreign"),
            ("../private/job.yaml", 1000, "good"),
            ("../theirs/own.yaml", 2000, "good"),
            ("out/job.yaml", 2000, "foreign"),
            ("sub/link", 2000, "foreign"),
            ("sub/link", 1000, "good"),
            ("../../../../etc/passwd", 0, "outside"),
            ("/etc/passwd", 0, "outside"),
            ("sub/none.yaml", 2000, "missing"),
            ("ska-data-product.yaml", 2000, "missing"),
        ] {
            symlink(to, &link).expect("a link");
            lchown(&link, Some(owner), None).expect("an owner");
            let root = volume.open().expect("the root");
            let read = match root.read(&"mine".parse().expect("a folder")) {
                Ok(_) => "good",
                Err(ReadError::Foreign) => "foreign",
                Err(ReadError::Outside) => "outside",
                Err(ReadError::Missing) => "missing",
                Err(error) => panic!("{to}: {error}"),
            };
            assert_eq!(read, expected, "{to} of {owner}");
            fs::remove_file(&link).expect("removed");
        }
    }

    #[test]
    fn an_identity_is_not_read_from_somebody_elses_file() {
        let Some((dir, volume)) = volume() else { return };
        let link = dir.path().join(volume.id_file());
        symlink("private/job.yaml", &link).expect("a link");
        lchown(&link, Some(2000), None).expect("an owner");
        for read in [identity::read(&volume).map(drop), identity::read_or_create(&volume).map(drop)] {
            let error = read.expect_err("somebody else's").to_string();
            assert!(error.contains("somebody else's") && !error.contains("eb-a") && !error.contains("word"), "{error}");
        }
        fs::write(dir.path().join("theirs/id"), "d4c137fb-d432-4000-8000-000000000000").expect("a file");
        chown(dir.path().join("theirs/id"), Some(2000), None).expect("an owner");
        fs::remove_file(&link).expect("removed");
        symlink("theirs/id", &link).expect("a link");
        lchown(&link, Some(2000), None).expect("an owner");
        assert!(identity::read(&volume).expect("an identity").is_some());
    }
}
