//! Comparing what was unpacked with what the server lists: sizes of all files, and checksums where the metadata give one that
//! can be compared.

use super::table::{cell, printable};
use super::unpack::reach;
use super::{Client, Failure, Result};
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, OpenOptions};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Files on a page of the list.
const PAGE: usize = 10_000;
/// The longest list of files that are not as they should be, or could not be compared.
const NAMED: usize = 20;
/// What stands for a checksum where nobody made one.
const PLACEHOLDER: &str = "00000000";

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    sizes: u64,
    checksums: u64,
    not_compared: Vec<String>,
    wrong: Vec<String>,
}

/// Compares. The error is a line that says why nothing can be compared.
pub(crate) fn verify(client: &Client, product: &str, folder: &Dir) -> std::result::Result<Verdict, String> {
    let mut verdict = Verdict::default();
    let mut outer = Vec::<String>::new();
    for uid in products(client, product).map_err(|error| error.to_string())? {
        let mut page = 0;
        loop {
            let path = format!("/products/{uid}/files?page={page}&pageSize={PAGE}");
            let list = client.get_json(&path).map_err(|error| error.to_string())?;
            let top = cell(&list["folder"]);
            // What lies in another product was compared with that one, but for the checksums, which are its own.
            let is_inner = outer.iter().any(|outer| top.starts_with(&format!("{outer}/")));
            let files = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            files.iter().for_each(|file| verdict.file(folder, &top, file, is_inner));
            if files.len() < PAGE {
                outer.push(top);
                break;
            }
            page += 1;
        }
    }
    Ok(verdict)
}

/// The uids of what was downloaded, outer folders first.
fn products(client: &Client, product: &str) -> Result<Vec<Uuid>> {
    if let Ok(uid) = product.parse() {
        return Ok(vec![uid]);
    }
    let pairs = json!({"start_date": "1900-01-01", "key_value_pairs": [format!("execution_block:{product}")]});
    let rows = client.post_json("/dataproductsearch", &pairs)?;
    let mut found: Vec<(String, Uuid)> = rows
        .as_array()
        .into_iter()
        .flatten()
        .filter(|row| row["execution_block"] == product && row["dataproduct_file"] != "None")
        .filter_map(|row| Some((cell(&row["dataproduct_file"]), row["uid"].as_str()?.parse().ok()?)))
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, uid)| uid).collect())
}

impl Verdict {
    fn file(&mut self, folder: &Dir, top: &str, file: &Value, is_inner: bool) {
        let Some(path) = path(top, file) else { return };
        let checksum = file.get("crc").filter(|crc| **crc != Value::Null);
        if is_inner && checksum.is_none() {
            return;
        }
        let named = printable(&path.to_string_lossy());
        let size = file["size"].as_u64().unwrap_or_default();
        match reach(folder, &path, Dir::symlink_metadata) {
            Ok(metadata) if metadata.is_file() && metadata.len() == size => self.sizes += u64::from(!is_inner),
            Ok(metadata) => {
                return add(
                    &mut self.wrong,
                    format!("{named} has {} bytes here and {size} on the server", metadata.len()),
                );
            }
            Err(error) => return add(&mut self.wrong, format!("{named} is not here: {error}")),
        }
        let Some(checksum) = checksum else { return };
        match (crc(checksum), crc_of(folder, &path)) {
            (Some(wanted), Ok(found)) if wanted == found => self.checksums += 1,
            (None, Ok(_)) => {
                let text = printable(&cell(checksum));
                add(&mut self.not_compared, format!("{named}: its checksum '{text}' is no CRC-32"));
            }
            (Some(wanted), Ok(found)) => {
                add(&mut self.wrong, format!("{named} has the CRC-32 {found:08x}, and its metadata say {wanted:08x}"));
            }
            (_, Err(error)) => add(&mut self.wrong, format!("{named} cannot be read: {error}")),
        }
    }

    /// What to say of it.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = vec![format!(
            "compared: the sizes of {} files, and the checksums of {} of them; {} have none",
            self.sizes,
            self.checksums,
            self.sizes.saturating_sub(self.checksums + self.not_compared.len() as u64)
        )];
        words.extend(self.not_compared.iter().map(|line| format!("not compared: {line}")));
        words
    }

    /// Whether all that could be compared is right.
    pub(crate) fn outcome(&self) -> Result<()> {
        match self.wrong.is_empty() {
            true => Ok(()),
            false => Err(Failure::Unsound(format!("not as it should be:\n  {}", self.wrong.join("\n  ")))),
        }
    }
}

fn add(list: &mut Vec<String>, line: String) {
    if list.len() < NAMED {
        list.push(line);
    }
}

/// Where a listed file is. Its URL has the name in all its bytes.
fn path(top: &str, file: &Value) -> Option<PathBuf> {
    let (_, encoded) = file["url"].as_str()?.split_once("/files/")?;
    let bytes: Vec<u8> = percent_decode_str(encoded).collect();
    Some(Path::new(top).join(OsStr::from_bytes(&bytes)))
}

/// The number that a checksum of eight hexadecimal digits is.
fn crc(checksum: &Value) -> Option<u32> {
    let text = checksum.as_str().filter(|text| text.len() == 8 && *text != PLACEHOLDER)?;
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn crc_of(folder: &Dir, path: &Path) -> io::Result<u32> {
    let mut file = reach(folder, path, |folder, rest| {
        folder.open_with(rest, OpenOptions::new().read(true).follow(FollowSymlinks::No))
    })?;
    let (mut hasher, mut bytes) = (crc32fast::Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&bytes[..read]),
        }
    }
}
