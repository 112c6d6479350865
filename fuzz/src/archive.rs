//! Plans of archives over any names: what stands at each byte is known before it is made, and another reader of tar finds
//! the entries that were planned.

use api::download::plan::{Builder, Index, Kind, New, Place, Plan};
use api::download::version::{Time, Version};
use std::io::Read;

/// The largest archive that is made, in bytes.
const LARGEST: u64 = 1 << 20;

pub(crate) fn feed(data: &[u8]) {
    let mut builder = Builder::default();
    let mut folders: Vec<Index> = Vec::new();
    for line in data.split(|byte| *byte == b'\n').take(100) {
        // What it is, its size and its folder, and then its name: no name has a slash or a zero, or is none.
        let [kind, size, folder, name @ ..] = line else { continue };
        let is_name =
            !name.is_empty() && !name.contains(&b'/') && !name.contains(&0) && ![&b"."[..], b".."].contains(&name);
        if !is_name {
            continue;
        }
        let (kind, target) = match kind % 3 {
            0 => (Kind::File, &b""[..]),
            1 => (Kind::Folder, &b""[..]),
            _ => (Kind::Link, name),
        };
        let modified = Time::new(i64::from(*size) - 9, 7);
        let version = Version { size: u64::from(*size) * 7, inode: 1, modified, changed: modified };
        let new = New { kind, name, target, mode: 0o640, version, readable: true };
        let parent = folders.get(usize::from(*folder)).copied();
        let Ok(index) = builder.add(parent, &new) else { return };
        if kind == Kind::Folder {
            folders.push(index);
        }
    }
    let plan = builder.finish();
    if plan.total() <= LARGEST {
        is_read_as_planned(&plan, &bytes(&plan));
    }
}

/// The archive of files that are full of zeros, put together from place to place.
fn bytes(plan: &Plan) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let position = bytes.len();
        match plan.place(position as u64) {
            Place::Header(index, 0) => bytes.extend(plan.header(index)),
            Place::Content(index, 0) => bytes.resize(position + plan.version(index).size as usize, 0),
            Place::Zeros(zeros) => bytes.resize(position + zeros as usize, 0),
            Place::End => return bytes,
            inside => panic!("{inside:?} at {position}"),
        }
        assert!(bytes.len() > position, "nothing at {position}");
    }
}

fn is_read_as_planned(plan: &Plan, bytes: &[u8]) {
    assert_eq!(bytes.len() as u64, plan.total());
    let mut archive = tar::Archive::new(bytes);
    let mut entries = archive.entries().expect("an archive");
    for index in plan.indexes(0..plan.len()) {
        let mut entry = entries.next().expect("as many entries").expect("an entry");
        let own = entry.path_bytes().into_owned();
        let read = own.strip_suffix(b"/").unwrap_or(&own);
        assert_eq!(read, plan.path(index), "{own:?}");
        if plan.kind(index) == Kind::Link {
            assert_eq!(entry.link_name_bytes().expect("a target").as_ref(), plan.target(index));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("its content");
        let size = if plan.kind(index) == Kind::File { plan.version(index).size } else { 0 };
        assert_eq!(content.len() as u64, size);
    }
    assert!(entries.next().is_none());
}
