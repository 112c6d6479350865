//! What is on the volume and what was said of it: what answers are compared with.

use serde_json::{Value, json};
use shared::uid;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tests::permissions::MEMBER;
use tests::program::Server;
use tests::volume::{METADATA, Volume};

/// Every so manieth product is restricted.
const RESTRICTED: usize = 7;
/// How many products share a folder of the first level.
const TOGETHER: usize = 500;

/// A product: all of it follows from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Product(pub(crate) usize);

impl Product {
    pub(crate) fn block(self) -> String {
        format!("eb-soak-2024{:02}{:02}-{:07}", 1 + self.0 % 12, 1 + self.0 % 28, self.0)
    }

    pub(crate) fn folder(self) -> String {
        format!("{}/{}", self.0 / TOGETHER, self.block())
    }

    pub(crate) fn is_restricted(self) -> bool {
        self.0.is_multiple_of(RESTRICTED)
    }

    /// What a file of it holds.
    pub(crate) fn content(self) -> Vec<u8> {
        let length = 1000 + (self.0 * 7919) % 200_000;
        (0..length).map(|at| (at * 31 + self.0) as u8).collect()
    }

    fn metadata(self) -> String {
        let group = if self.is_restricted() { "\n  access_group: staff" } else { "" };
        format!(
            "execution_block: {}\ncontext:\n  observer: observer_{}{group}\nsoak:\n  n: {}\n  kind: kind_{}\n",
            self.block(),
            self.0 % 50,
            self.0,
            self.0 % 10
        )
    }
}

/// Everything there is.
pub(crate) struct World<'a> {
    volume: &'a Volume,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many have begun to arrive; all below this number may be found.
    begun: usize,
    /// When those arrived that nobody has found yet.
    unseen: HashMap<usize, Instant>,
    seen: Vec<usize>,
    /// Texts of annotations that were said to be kept, by product.
    notes: HashMap<usize, HashSet<String>>,
    /// Texts of which nobody knows whether they were kept.
    doubtful: HashSet<String>,
}

impl World<'_> {
    pub(crate) fn new(volume: &Volume) -> World<'_> {
        World { volume, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets another product arrive, as a pipeline writes one: the metadata last.
    pub(crate) fn arrive(&self) {
        let product = {
            let mut state = self.state();
            state.begun += 1;
            Product(state.begun - 1)
        };
        let folder = product.folder();
        self.volume.write(&format!("{folder}/data.bin"), product.content());
        let (made, meant) =
            (self.volume.at(&format!("{folder}/{METADATA}.tmp")), self.volume.at(&folder).join(METADATA));
        fs::write(&made, product.metadata()).expect("the metadata");
        fs::rename(made, meant).expect("renamed");
        self.state().unseen.insert(product.0, Instant::now());
    }

    fn uid(&self, product: Product) -> String {
        let folder = product.folder().parse().expect("a folder");
        uid::on_volume(&product.block(), self.volume.path().to_str().expect("a path"), &folder).to_string()
    }

    /// How many may be found by now.
    pub(crate) fn products(&self) -> usize {
        self.state().begun
    }

    /// Those that were found so far.
    pub(crate) fn seen(&self) -> usize {
        self.state().seen.len()
    }

    /// One of those that were found, with its uid.
    pub(crate) fn any(&self, random: u64) -> (Product, String) {
        let state = self.state();
        let n = state.seen[usize::try_from(random).unwrap_or(0) % state.seen.len()];
        (Product(n), self.uid(Product(n)))
    }

    /// Those that nobody has found yet, and when they arrived.
    pub(crate) fn unseen(&self) -> Vec<(Product, Instant)> {
        self.state().unseen.iter().map(|(n, since)| (Product(*n), *since)).collect()
    }

    /// Looks whether a product is found, and remembers it if so; an error where what is found is not what it should be.
    pub(crate) fn look(&self, api: &Server, product: Product) -> Result<bool, String> {
        let uid = self.uid(product);
        let body = json!({"uid": uid}).to_string();
        let answer = api.ask("POST", "/dataproductmetadata", Some(MEMBER), body.as_bytes());
        if answer.status == 404 || answer.status == 503 && !answer.header("retry-after").is_empty() {
            return Ok(false);
        }
        if answer.status != 200 || answer.json()["soak"]["n"] != product.0 {
            return Err(format!("{product:?}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
        }
        let mut state = self.state();
        if state.unseen.remove(&product.0).is_some() {
            state.seen.push(product.0);
        }
        Ok(true)
    }

    /// Waits until all that arrived are found; tells of those that are not, or wrongly.
    pub(crate) fn wait_for_all(&self, api: &Server) -> Vec<String> {
        let begun = Instant::now();
        let mut wrong = Vec::new();
        while begun.elapsed() < tests::PATIENCE && wrong.is_empty() {
            let unseen = self.unseen();
            if unseen.is_empty() {
                return wrong;
            }
            for (product, _) in unseen {
                wrong.extend(self.look(api, product).err());
            }
        }
        wrong.extend(self.unseen().iter().map(|(product, _)| format!("{product:?} is not there at the end")));
        wrong
    }

    /// Remembers a text: whether it was kept, where that is known.
    pub(crate) fn note(&self, product: Product, text: String, kept: Option<bool>) {
        let mut state = self.state();
        match kept {
            Some(true) => drop(state.notes.entry(product.0).or_default().insert(text)),
            Some(false) => {}
            None => drop(state.doubtful.insert(text)),
        }
    }

    /// How many texts were said to be kept.
    pub(crate) fn annotations(&self) -> usize {
        self.state().notes.values().map(HashSet::len).sum()
    }

    /// Tells of texts that are not there though they should be, are there twice, or that nobody wrote.
    pub(crate) fn missing_annotations(&self, api: &Server) -> Vec<String> {
        let state = self.state();
        let mut wrong = Vec::new();
        for (n, texts) in &state.notes {
            let answer = api.ask("GET", &format!("/annotations/{}", self.uid(Product(*n))), Some(MEMBER), b"");
            let listed = if answer.status == 200 { answer.json() } else { Value::Null };
            let listed: Vec<&str> =
                listed.as_array().into_iter().flatten().filter_map(|one| one["annotation_text"].as_str()).collect();
            for text in texts {
                if listed.iter().filter(|own| *own == text).count() != 1 {
                    wrong.push(format!("the annotation '{text}' of {n} is not there once: {listed:?}"));
                }
            }
            let strange = listed.iter().filter(|own| !texts.contains(**own) && !state.doubtful.contains(**own));
            wrong.extend(strange.map(|own| format!("nobody wrote '{own}'")));
        }
        wrong
    }
}
