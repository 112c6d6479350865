//! The bytes of a tar's entries but their content: pure, and the same for the same entry for ever.
//!
//! The format is GNU tar's: a name or target of more than 100 bytes goes before the entry in one of its own, and sizes of
//! 8 GiB and more, and times before 1970 and after 2242, are written in base 256. Owners are left out: they mean nothing where an archive is unpacked.

use super::plan::Kind;
use tar::{EntryType, Header};

/// What everything in a tar is a multiple of, in bytes.
pub const BLOCK: u64 = 512;
/// The zeros that end a tar, in bytes.
pub const END: u64 = 2 * BLOCK;
/// The longest name or target that a header has room for, in bytes.
const ROOM: usize = 100;
/// What GNU tar calls the entries that hold long names.
const LONG: &[u8] = b"././@LongLink";

/// What a header says of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its name, from the storage path down.
    pub name: &'a [u8],
    /// What it leads to, of a link.
    pub target: &'a [u8],
    /// Bytes of content.
    pub size: u64,
    /// Permissions.
    pub mode: u16,
    /// Last modification, in seconds since 1970.
    pub modified: i64,
}

/// How many bytes [`bytes()`] makes for a name and a target of these lengths.
pub fn length(name: usize, target: usize) -> u64 {
    BLOCK + long_length(name) + long_length(target)
}

fn long_length(text: usize) -> u64 {
    // The text ends in a NUL, which counts.
    if text > ROOM { BLOCK + padded(text as u64 + 1) } else { 0 }
}

/// The next multiple of a block's size; saturates.
pub fn padded(length: u64) -> u64 {
    length.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// An entry's header, after the entries that long names need.
pub fn bytes(facts: &Facts<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    long(EntryType::GNULongName, facts.name, &mut bytes);
    long(EntryType::GNULongLink, facts.target, &mut bytes);
    let mut header = Header::new_gnu();
    header.set_entry_type(match facts.kind {
        Kind::File => EntryType::Regular,
        Kind::Folder => EntryType::Directory,
        Kind::Link => EntryType::Symlink,
    });
    header.set_mode(u32::from(facts.mode));
    set_time(&mut header, facts.modified);
    header.set_size(facts.size);
    finish(header, facts.name, facts.target, &mut bytes);
    bytes
}

/// Octal digits where they do, and base 256 in two's complement otherwise, which is negative before 1970.
fn set_time(header: &mut Header, seconds: i64) {
    match u64::try_from(seconds) {
        Ok(seconds) => header.set_mtime(seconds),
        Err(_) => {
            let field = &mut header.as_old_mut().mtime;
            let low = field.len() - size_of::<i64>();
            field[..low].fill(0xff);
            field[low..].copy_from_slice(&seconds.to_be_bytes());
        }
    }
}

fn long(kind: EntryType, text: &[u8], bytes: &mut Vec<u8>) {
    if text.len() > ROOM {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(text.len() as u64 + 1);
        finish(header, LONG, &[], bytes);
        bytes.extend_from_slice(text);
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
}

fn finish(mut header: Header, name: &[u8], target: &[u8], bytes: &mut Vec<u8>) {
    header.set_uid(0);
    header.set_gid(0);
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, name), (&mut old.linkname, target)] {
        let length = text.len().min(ROOM);
        field[..length].copy_from_slice(&text[..length]);
    }
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_reader_of_tars_reads_them_back() {
        let long = [b'n'; 300];
        for (name, target, size, modified) in [
            (&b"a"[..], &b""[..], 0, 0),
            (b"-C", b"", 8 << 30, 1_700_000_000),
            (b"a/b\nc\xff", b"", u64::MAX >> 1, -1),
            (&long[..100], b"", 1, i64::MAX),
            (&long[..101], b"", 511, 5),
            (&long, &long[..299], 0, -86_400),
            (b"b", b"", 0, i64::MIN),
            (b"b", b"", 0, (1 << 33) - 1),
            (b"b", b"", 0, 1 << 33),
            (b"b", b"", 0, 16_725_225_600),
            (b"link", b"../to\xfe", 0, 5),
        ] {
            let kind = if target.is_empty() { Kind::File } else { Kind::Link };
            let bytes = bytes(&Facts { kind, name, target, size, mode: 0o640, modified });
            assert_eq!(bytes.len() as u64, length(name.len(), target.len()));
            let mut archive = tar::Archive::new(bytes.as_slice().chain(std::io::repeat(0)));
            let entry = archive.entries().expect("entries").next().expect("one").expect("a good one");
            assert_eq!(entry.path_bytes(), name);
            assert_eq!(entry.link_name_bytes().as_deref().unwrap_or_default(), target);
            assert_eq!((entry.size(), entry.header().mode().expect("a mode")), (size, 0o640));
            assert_eq!(entry.header().mtime().expect("a time").cast_signed(), modified);
            assert!(std::ffi::OsStr::from_bytes(name).len() == name.len());
        }
    }
}
