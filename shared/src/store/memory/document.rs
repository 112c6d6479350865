//! Products as the store in memory keeps them: as text, compressed.
//!
//! A million products are much the same text: the same keys, the same scripts, URLs that begin alike. A small text says
//! too little by itself to be compressed well, so what they have in common is learnt from the first few thousand (a
//! dictionary of Zstandard's), and each is written as what it has beside that. One product can be read without any other.

use crate::flow::FlowState;
use crate::folder::Folder;
use crate::product::{Product, Stored};
use chrono::NaiveDate;
use serde_json::{Map, Value};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tracing::error;
use uuid::Uuid;
use zstd::bulk::{Compressor, Decompressor};

/// How many texts a dictionary is made from, and how many bytes of them.
const SAMPLES: usize = 4096;
const SAMPLE_BYTES: usize = 16 << 20;
/// Texts that are longer have enough in common with themselves.
const LONGEST_SAMPLE: usize = 16 << 10;
/// How large the dictionary is.
const DICTIONARY: usize = 112 << 10;
/// How hard it is tried: more takes twice the time for a twentieth less.
const LEVEL: i32 = 3;
/// How many readers of texts are kept for the next who need one.
const KEPT: usize = 4;

/// What the first byte of a packed text says.
const AS_IT_IS: u8 = 0;
const PLAIN: u8 = 1;
const TRAINED: u8 = 2;

/// A product's text, compressed.
#[derive(Debug, Clone)]
pub(super) struct Packed(Box<[u8]>);

/// Packs products, and learns how from the first of them.
#[derive(Default)]
pub(super) struct Documents {
    plain: Codec,
    trained: OnceLock<Codec>,
    samples: Mutex<Samples>,
    training: AtomicBool,
}

#[derive(Default)]
struct Samples {
    texts: Vec<u8>,
    lengths: Vec<usize>,
}

/// Contexts with one dictionary. They are kept, since to read a dictionary takes longer than to compress with it.
#[derive(Default)]
struct Codec {
    dictionary: Vec<u8>,
    packers: Mutex<Vec<Compressor<'static>>>,
    unpackers: Mutex<Vec<Decompressor<'static>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Documents {
    /// A product, packed.
    pub(super) fn pack(&self, product: &Product) -> Packed {
        let text = text(product);
        let (kind, codec) = match self.trained.get() {
            Some(trained) => (TRAINED, trained),
            None => {
                self.sample(&text);
                (PLAIN, &self.plain)
            }
        };
        let compressed = codec.compress(&text).inspect_err(|error| error!(%error, "a document is kept as it is"));
        let (kind, bytes) = compressed.map_or((AS_IT_IS, text), |bytes| (kind, bytes));
        Packed([&[kind], bytes.as_slice()].concat().into())
    }

    /// The product that was packed, with what is kept beside it. `None` where memory is not what it was.
    pub(super) fn unpack(&self, packed: &Packed, uid: Uuid, date_created: NaiveDate) -> Option<Product> {
        let product = self.text(packed).and_then(|text| restored(&text, uid, date_created));
        product.inspect_err(|error| error!(%uid, %error, "the document in memory does not read")).ok()
    }

    fn text(&self, Packed(packed): &Packed) -> io::Result<Vec<u8>> {
        match packed.split_first() {
            Some((&AS_IT_IS, bytes)) => Ok(bytes.to_vec()),
            Some((&PLAIN, bytes)) => self.plain.decompress(bytes),
            Some((&TRAINED, bytes)) => self.trained.get().ok_or_else(broken)?.decompress(bytes),
            _ => Err(broken()),
        }
    }

    fn sample(&self, text: &[u8]) {
        let mut samples = lock(&self.samples);
        if text.len() <= LONGEST_SAMPLE && !samples.is_enough() {
            samples.texts.extend_from_slice(text);
            samples.lengths.push(text.len());
        }
    }

    /// Whether there are enough texts to [learn](Self::learn) from, and nobody does.
    pub(super) fn can_learn(&self) -> bool {
        !self.training.load(Ordering::Relaxed) && lock(&self.samples).is_enough()
    }

    /// Makes the dictionary, which takes about a second.
    pub(super) fn learn(&self) {
        if self.training.swap(true, Ordering::Relaxed) {
            return;
        }
        let samples = std::mem::take(&mut *lock(&self.samples));
        match zstd::dict::from_continuous(&samples.texts, &samples.lengths, DICTIONARY) {
            // Set once: nobody else is here.
            Ok(dictionary) => drop(self.trained.set(Codec { dictionary, ..Codec::default() })),
            Err(error) => error!(%error, "documents are compressed each by itself"),
        }
    }
}

impl Samples {
    fn is_enough(&self) -> bool {
        self.lengths.len() >= SAMPLES || self.texts.len() >= SAMPLE_BYTES
    }
}

impl Codec {
    fn compress(&self, text: &[u8]) -> io::Result<Vec<u8>> {
        let packer = lock(&self.packers).pop();
        let mut packer = packer.map_or_else(|| Compressor::with_dictionary(LEVEL, &self.dictionary), Ok)?;
        let packed = packer.compress(text);
        keep(&self.packers, packer);
        packed
    }

    fn decompress(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let length = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten().ok_or_else(broken)?;
        let unpacker = lock(&self.unpackers).pop();
        let mut unpacker = unpacker.map_or_else(|| Decompressor::with_dictionary(&self.dictionary), Ok)?;
        let text = unpacker.decompress(bytes, usize::try_from(length).map_err(io::Error::other)?);
        keep(&self.unpackers, unpacker);
        text
    }
}

fn keep<T>(kept: &Mutex<Vec<T>>, context: T) {
    let mut kept = lock(kept);
    if kept.len() < KEPT {
        kept.push(context);
    }
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// What is kept of a product beside its metadata: its folder, the metadata file's name, its store, and its flows.
type Beside<'a> = (Option<&'a str>, Option<&'a str>, &'a str, &'a [FlowState]);
type BesideOwned = (Option<String>, Option<String>, String, Vec<FlowState>);

/// Two lines of JSON: what stands beside the metadata, and the metadata. (JSON has no line breaks where none are put.)
fn text(product: &Product) -> Vec<u8> {
    let beside: Beside<'_> = (
        product.folder.as_ref().map(Folder::as_str),
        product.metadata_file.as_deref(),
        &product.store_name,
        &product.flows,
    );
    // Neither has what JSON cannot say.
    let mut text = serde_json::to_vec(&beside).unwrap_or_default();
    text.push(b'\n');
    text.extend(serde_json::to_vec(&product.metadata).unwrap_or_default());
    text
}

fn restored(text: &[u8], uid: Uuid, date_created: NaiveDate) -> io::Result<Product> {
    let end = text.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
    let (folder, metadata_file, store_name, flows): BesideOwned = serde_json::from_slice(&text[..end])?;
    let folder = folder.map(|folder| folder.parse()).transpose().map_err(io::Error::other)?;
    let metadata: Map<String, Value> = serde_json::from_slice(&text[end..])?;
    Ok(Product::restored(metadata, Stored { uid, date_created, folder, metadata_file, store_name, flows }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowId;
    use serde_json::json;

    fn product(n: usize) -> Product {
        let metadata = json!({
            "execution_block": format!("eb-test-20240102-{n:05}"), "config": {"processing_script": "vis-receive"},
            "context": {"notes": "one\ntwo", "number": n, "float": 0.1 + n as f64}, "files": [{"status": "done"}],
        });
        let mut product = Product::from_metadata(metadata, "volume").expect("a product");
        product.folder = (!n.is_multiple_of(3)).then(|| format!("eb-test/{n}").parse().expect("a folder"));
        product.metadata_file = product.folder.is_some().then(|| "m.yaml".to_owned());
        let flow = FlowId::stored(format!("pb-{n}:data-product:x"));
        product.flows =
            n.is_multiple_of(5).then_some(FlowState { flow, status: Some("FLOWING".to_owned()) }).into_iter().collect();
        product
    }

    #[test]
    fn products_come_back_as_they_were() {
        let documents = Documents::default();
        let mut packed = Vec::new();
        for n in 0..SAMPLES + 100 {
            let product = product(n);
            packed.push((documents.pack(&product), product));
            if documents.can_learn() {
                documents.learn();
            }
        }
        assert!(documents.trained.get().is_some(), "nothing was learnt");
        for (packed, product) in &packed {
            let restored = documents.unpack(packed, product.uid, product.date_created);
            assert_eq!(restored.as_ref(), Some(product));
        }
        let length = |n: usize| packed[n].0.0.len();
        assert!(length(SAMPLES + 50) * 2 < length(50), "{} and {}", length(SAMPLES + 50), length(50));
    }

    #[test]
    fn what_is_broken_is_no_product() {
        let documents = Documents::default();
        for bytes in [&[][..], &[AS_IT_IS, b'x'], &[PLAIN, 1, 2, 3], &[TRAINED, 1], &[9]] {
            assert_eq!(documents.unpack(&Packed(bytes.into()), Uuid::nil(), NaiveDate::default()), None);
        }
    }
}
