//! What an archive will be, byte for byte, before its first byte is made: pure, and small enough to keep.
//!
//! A plan holds each entry's version (size, times, inode) and offset in 64 bytes, and names once: an entry has its own name
//! and knows the folder that it is in. A million files take some 78 MB.

use super::header::{self, Facts};
use super::version::Version;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Goes into every ETag: archives that are made otherwise are others.
const FORMAT: &[u8] = b"dpd tar 2";
/// Stands for no folder.
const NOWHERE: u32 = u32::MAX;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    File,
    Folder,
    Link,
}

/// An entry to add to a plan.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its own name; at the top it may be a path.
    pub name: &'a [u8],
    /// What it leads to, of a link.
    pub target: &'a [u8],
    /// Permissions.
    pub mode: u16,
    /// Its version.
    pub version: Version,
    /// Whether it may be read.
    pub readable: bool,
}

/// Which entry, by its place in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index(u32);

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its header begins in the archive.
    offset: u64,
    version: Version,
    /// Where its name begins in `names`; the target of a link follows the name.
    name: u32,
    folder: u32,
    name_length: u16,
    target_length: u16,
    mode: u16,
    kind: Kind,
    readable: bool,
}

/// An archive, planned.
#[derive(Debug)]
pub struct Plan {
    entries: Vec<Entry>,
    names: Vec<u8>,
    total: u64,
    etag: String,
    settled: i64,
    /// How many entries may not be read, and the first of them.
    unreadable: Option<(usize, Index)>,
}

/// What stands at a position of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In an entry's header, so many bytes from its beginning.
    Header(Index, u64),
    /// In a file's content, so many bytes from its beginning.
    Content(Index, u64),
    /// In zeros, of which so many follow.
    Zeros(u64),
    /// Behind the end.
    End,
}

/// More than a plan can hold: 2³² entries or bytes of names, or 2⁶⁴ bytes in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// A plan in the making.
pub struct Builder {
    plan: Plan,
    digest: Sha256,
}

impl Default for Builder {
    fn default() -> Self {
        let (entries, names, etag) = Default::default();
        let plan = Plan { entries, names, total: 0, etag, settled: i64::MIN, unreadable: None };
        Builder { plan, digest: Sha256::new_with_prefix(FORMAT) }
    }
}

impl Builder {
    /// Adds an entry to a folder that was added before, or at the top. Entries come in the archive in the order in which
    /// they are added. Only files have content.
    ///
    /// # Errors
    /// Where the plan is full.
    pub fn add(&mut self, folder: Option<Index>, new: &New<'_>) -> Result<Index, TooLarge> {
        let plan = &mut self.plan;
        let index = u32::try_from(plan.entries.len()).ok().filter(|index| *index != NOWHERE).ok_or(TooLarge)?;
        let size = if new.kind == Kind::File { new.version.size } else { 0 };
        let entry = Entry {
            offset: plan.total,
            version: Version { size, ..new.version },
            name: u32::try_from(plan.names.len()).map_err(|_| TooLarge)?,
            folder: folder.map_or(NOWHERE, |folder| folder.0),
            name_length: u16::try_from(new.name.len()).map_err(|_| TooLarge)?,
            target_length: u16::try_from(new.target.len()).map_err(|_| TooLarge)?,
            mode: new.mode,
            kind: new.kind,
            readable: new.readable,
        };
        if !new.readable {
            let (count, first) = plan.unreadable.unwrap_or((0, Index(index)));
            plan.unreadable = Some((count + 1, first));
        }
        plan.names.extend_from_slice(new.name);
        plan.names.extend_from_slice(new.target);
        plan.entries.push(entry);
        let header = header::length(plan.name_length(Index(index)), new.target.len());
        let end = plan.total.checked_add(header).and_then(|end| end.checked_add(header::padded(size)));
        plan.total = end.filter(|end| end.checked_add(header::END).is_some()).ok_or(TooLarge)?;
        plan.settled = plan.settled.max(new.version.settled());
        self.digest(&entry, new.name, new.target);
        Ok(Index(index))
    }

    /// All that the archive's bytes depend on.
    fn digest(&mut self, entry: &Entry, name: &[u8], target: &[u8]) {
        let mut fixed = [0; 11];
        fixed[0] = entry.kind as u8;
        fixed[1..3].copy_from_slice(&entry.mode.to_le_bytes());
        fixed[3..5].copy_from_slice(&entry.name_length.to_le_bytes());
        fixed[5..7].copy_from_slice(&entry.target_length.to_le_bytes());
        fixed[7..11].copy_from_slice(&entry.folder.to_le_bytes());
        self.digest.update(fixed);
        self.digest.update(entry.version.bytes());
        self.digest.update(name);
        self.digest.update(target);
    }

    /// The plan of all that was added.
    pub fn finish(self) -> Plan {
        let Builder { mut plan, digest } = self;
        plan.entries.shrink_to_fit();
        plan.names.shrink_to_fit();
        plan.total += header::END;
        plan.etag = etag(&digest.finalize());
        plan
    }
}

/// A strong ETag of a digest: its first 16 bytes.
pub fn etag(digest: &[u8]) -> String {
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

impl Plan {
    /// How many bytes the archive has.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The same for the same bytes, and another for others: strong, with its quotes.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// From when on all its versions are settled, in nanoseconds since 1970: see [`Version::settled`].
    pub fn settled(&self) -> i64 {
        self.settled
    }

    /// How many bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Plan>() + self.entries.capacity() * size_of::<Entry>() + self.names.capacity()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries of a part of the plan, in order; of all with `0..plan.len()`.
    pub fn indexes(&self, part: Range<usize>) -> impl Iterator<Item = Index> + use<> {
        let bound = |at: usize| u32::try_from(at.min(self.entries.len())).unwrap_or(NOWHERE);
        (bound(part.start)..bound(part.end)).map(Index)
    }

    /// What an entry is.
    pub fn kind(&self, index: Index) -> Kind {
        self.entry(index).kind
    }

    /// An entry's permissions.
    pub fn mode(&self, index: Index) -> u16 {
        self.entry(index).mode
    }

    /// The version that an entry was planned with.
    pub fn version(&self, index: Index) -> Version {
        self.entry(index).version
    }

    /// Whether an entry may be read.
    pub fn is_readable(&self, index: Index) -> bool {
        self.entry(index).readable
    }

    /// How many entries may not be read, and the first of them. An archive with such is not to be had.
    pub fn unreadable(&self) -> Option<(usize, Index)> {
        self.unreadable
    }

    /// The folder that an entry is in; `None` at the top.
    pub fn folder(&self, index: Index) -> Option<Index> {
        Some(self.entry(index).folder).filter(|folder| *folder != NOWHERE).map(Index)
    }

    /// An entry's own name; at the top it may be a path.
    pub fn own_name(&self, index: Index) -> &OsStr {
        OsStr::from_bytes(self.own(index))
    }

    /// An entry's name in the archive, which is its path below the storage path.
    pub fn path(&self, index: Index) -> Vec<u8> {
        let mut path = vec![0; self.name_length(index)];
        let mut end = path.len();
        let mut at = Some(index);
        while let Some(index) = at {
            let own = self.own(index);
            path[end - own.len()..end].copy_from_slice(own);
            end -= own.len();
            at = self.folder(index);
            if at.is_some() {
                end -= 1;
                path[end] = b'/';
            }
        }
        path
    }

    /// What stands at a position.
    pub fn place(&self, position: u64) -> Place {
        let Some(last) = self.entries.partition_point(|entry| entry.offset <= position).checked_sub(1) else {
            return self.zeros(position, self.total);
        };
        let index = Index(u32::try_from(last).unwrap_or(NOWHERE));
        let entry = self.entry(index);
        let header = header::length(self.name_length(index), entry.target_length.into());
        let into = position - entry.offset;
        if into < header {
            return Place::Header(index, into);
        }
        if into - header < entry.version.size {
            return Place::Content(index, into - header);
        }
        // The zeros after the last entry go on to the end.
        self.zeros(position, self.entries.get(last + 1).map_or(self.total, |next| next.offset))
    }

    fn zeros(&self, position: u64, end: u64) -> Place {
        if position < end { Place::Zeros(end - position) } else { Place::End }
    }

    /// The bytes before an entry's content.
    pub fn header(&self, index: Index) -> Vec<u8> {
        let Entry { kind, mode, version, .. } = *self.entry(index);
        let (name, target) = (self.path(index), self.target(index));
        header::bytes(&Facts {
            kind,
            name: &name,
            target,
            size: version.size,
            mode,
            modified: version.modified.seconds(),
        })
    }

    fn entry(&self, index: Index) -> &Entry {
        &self.entries[index.0 as usize]
    }

    fn own(&self, index: Index) -> &[u8] {
        let entry = self.entry(index);
        let begin = entry.name as usize;
        &self.names[begin..begin + usize::from(entry.name_length)]
    }

    /// What a link leads to.
    pub fn target(&self, index: Index) -> &[u8] {
        let entry = self.entry(index);
        let begin = entry.name as usize + usize::from(entry.name_length);
        &self.names[begin..begin + usize::from(entry.target_length)]
    }

    fn name_length(&self, index: Index) -> usize {
        let mut length = usize::from(self.entry(index).name_length);
        let mut at = self.folder(index);
        while let Some(index) = at {
            length += 1 + usize::from(self.entry(index).name_length);
            at = self.folder(index);
        }
        length
    }
}

/// A name as the file system takes it.
pub fn as_path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::super::plans;
    use super::super::version::Time;
    use super::*;

    fn version(size: u64) -> Version {
        Version { size, inode: 7, modified: Time::new(5, 0), changed: Time::new(7, 1) }
    }

    fn new<'a>(kind: Kind, name: &'a [u8], target: &'a [u8], size: u64) -> New<'a> {
        New { kind, name, target, mode: 0o644, version: version(size), readable: true }
    }

    fn some() -> Builder {
        let mut builder = Builder::default();
        let mut add = |folder, new| builder.add(folder, &new).expect("room");
        let changed = Version { changed: Time::new(9, 1), ..version(4096) };
        let top = add(None, New { version: changed, ..new(Kind::Folder, b"eb/pb", b"", 4096) });
        let folder = add(Some(top), new(Kind::Folder, &[b'd'; 120], b"", 0));
        add(Some(folder), new(Kind::File, b"f", b"", 513));
        add(Some(top), new(Kind::File, b"empty", b"", 0));
        add(Some(top), new(Kind::Link, b"link", b"empty", 5));
        add(Some(top), new(Kind::File, b"large", b"", 9 << 30));
        builder
    }

    /// Walks from place to place, and takes each for what it says.
    fn spans(plan: &Plan) -> Vec<(u64, Place)> {
        let (mut position, mut spans) = (0, Vec::new());
        loop {
            let place = plan.place(position);
            spans.push((position, place));
            position += match place {
                Place::Header(index, 0) => plan.header(index).len() as u64,
                Place::Content(index, 0) => plan.version(index).size,
                Place::Zeros(zeros) => zeros,
                Place::End => return spans,
                inside => panic!("{inside:?}"),
            };
        }
    }

    #[test]
    fn places_follow_on_each_other_to_the_end() {
        let plan = some().finish();
        let spans = spans(&plan);
        let (end, _) = spans[spans.len() - 1];
        assert_eq!((end, end % 512), (plan.total(), 0));
        let at = |position| plan.place(position);
        for (begin, place) in &spans {
            match place {
                Place::Header(index, 0) => assert_eq!(at(begin + 5), Place::Header(*index, 5)),
                Place::Content(index, 0) => assert_eq!(at(begin + 5), Place::Content(*index, 5)),
                Place::Zeros(zeros) => assert_eq!(at(begin + 5), Place::Zeros(zeros - 5)),
                _ => assert_eq!(at(begin + 5), Place::End),
            }
        }
        let names: Vec<_> = plan.indexes(0..plan.len()).map(|index| plan.path(index)).collect();
        assert_eq!(names[3], b"eb/pb/empty");
        assert_eq!(names[2], [b"eb/pb/".as_slice(), &[b'd'; 120], b"/f"].concat());
        assert_eq!(plan.settled(), 9_020_000_001);
        assert_eq!(Builder::default().finish().place(0), Place::Zeros(1024));
    }

    #[test]
    fn etags_tell_apart_what_differs() {
        let etag = |builder: Builder| builder.finish().etag().to_owned();
        assert_eq!(etag(some()), etag(some()));
        let base = Version { size: 1, inode: 2, modified: Time::new(3, 0), changed: Time::new(4, 0) };
        let file = |name: &[u8], mode, version| {
            let mut builder = Builder::default();
            builder.add(None, &New { mode, version, ..new(Kind::File, name, b"", 0) }).expect("room");
            etag(builder)
        };
        let tags = [
            file(b"a", 0o644, base),
            file(b"b", 0o644, base),
            file(b"a", 0o640, base),
            file(b"a", 0o644, Version { size: 2, ..base }),
            file(b"a", 0o644, Version { inode: 3, ..base }),
            file(b"a", 0o644, Version { modified: Time::new(4, 0), ..base }),
            file(b"a", 0o644, Version { modified: Time::new(3, 1), ..base }),
            file(b"a", 0o644, Version { changed: Time::new(5, 0), ..base }),
            file(b"a", 0o644, Version { changed: Time::new(4, 1), ..base }),
            etag(Builder::default()),
        ];
        for (n, tag) in tags.iter().enumerate() {
            assert!(!tags[..n].contains(tag) && tag.len() == 34 && tag.starts_with('"'), "{tags:?}");
        }
    }

    #[test]
    fn what_may_not_be_read_is_counted_and_the_first_named() {
        let mut builder = some();
        for name in [b"x", b"y"] {
            let new = New { readable: false, ..new(Kind::File, name, b"", 1) };
            builder.add(None, &new).expect("room");
        }
        let plan = builder.finish();
        let named = plan.unreadable().map(|(count, first)| (count, plan.path(first), plan.is_readable(first)));
        assert_eq!(named, Some((2, b"x".to_vec(), false)));
        assert_eq!(some().finish().unreadable(), None);
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        let mut builder = Builder::default();
        let huge = u64::MAX - 4096;
        builder.add(None, &new(Kind::File, b"a", b"", huge)).expect("room");
        assert_eq!(builder.add(None, &new(Kind::File, b"b", b"", huge)), Err(TooLarge));
        assert_eq!(Builder::default().add(None, &new(Kind::File, &[b'a'; 70_000], b"", 1)), Err(TooLarge));
    }

    #[test]
    fn a_million_files_fit_in_little() {
        let mut builder = Builder::default();
        for n in 0..1_000_000 {
            let name = format!("table.f{n:07}");
            builder.add(None, &new(Kind::File, name.as_bytes(), b"", n)).expect("room");
        }
        let plan = builder.finish();
        // So that such a plan can be kept.
        assert!(plan.bytes() < plans::MEMORY, "{}", plan.bytes());
    }
}
